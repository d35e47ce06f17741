"""Work without conflicts: every task makes an array of its own, sorts it and keeps the middle one."""


class Sorter(Contract):
    """Results by task."""

    medians: Map[int, int]

    @external
    def sort(self, task: int, count: int):
        """Sort `count` numbers that follow from `task`, by insertion with shrinking gaps."""
        numbers = []
        state = task + 1
        for position in range(count):
            state = (state * 1103515245 + 12345) % 2147483648
            numbers.append(state)
        gap = count // 2
        while gap > 0:
            for position in range(gap, count):
                number = numbers[position]
                at = position
                while at >= gap and numbers[at - gap] > number:
                    numbers[at] = numbers[at - gap]
                    at -= gap
                numbers[at] = number
            gap = gap // 2
        self.medians[task] = numbers[count // 2]
