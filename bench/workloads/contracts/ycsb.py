"""YCSB's table: rows of fields, read whole and updated by one field."""

FIELDS = 10
FIELD_BYTES_MAX = 1000


class Table(Contract):
    """Fields by row and number."""

    fields: Map[tuple[int, int], bytes]

    @external
    def load(self, first: int, count: int, filler: bytes):
        """Fill the rows first, first + 1, ... with the same text in every field."""
        require(len(filler) <= FIELD_BYTES_MAX, "field_too_long")
        for row in range(first, first + count):
            for field in range(FIELDS):
                self.fields[(row, field)] = filler

    @external
    def read(self, row: int) -> int:
        """Read all fields of a row; its size, so that a receipt does not carry the row."""
        size = 0
        for field in range(FIELDS):
            size += len(self.fields[(row, field)])
        return size

    @external
    def update(self, row: int, field: int, value: bytes):
        """Write one field of a row that is there."""
        require(len(value) <= FIELD_BYTES_MAX, "field_too_long")
        require((row, field) in self.fields, "missing_row")
        self.fields[(row, field)] = value
