"""What agencies sell: report products with the data categories they show and their price in points.

An order fixes the price it was made at, so a new price never touches an order that exists.
"""

AGENCY = 4

CATEGORIES_ALL = 1023  # the collectable categories, see the consent contract
CODE_CHARS_MAX = 32
PRICE_MAX = 1_000_000_000

OK = "ok"
EXISTS = "product_exists"
UNKNOWN = "unknown_product"
RETIRED = "product_retired"


class Registry(Interface):
    @view
    def check(self, account: Address, roles: int) -> str: ...


class Offer(Struct):
    """`scope` is a sum of category bits; `version` counts the prices the product has had."""

    scope: int
    price: int
    version: int
    retired: bool


class ProductPublished(Event):
    agency: Address
    product: str
    scope: int
    price: int


class ProductPriced(Event):
    agency: Address
    product: str
    price: int
    version: int


class ProductRetired(Event):
    agency: Address
    product: str


class Product(Contract):
    """The catalogue; a product belongs to the agency that published it."""

    registry: Value[Address]
    offers: Map[tuple[Address, str], Offer]

    def init(self, registry: Address):
        self.registry.set(registry)

    @external
    def publish(self, product: str, scope: int, price: int) -> str:
        """Agency only. `product` is a code of a-z, 0-9, - (at most 32); `ok` or `product_exists`, even if retired."""
        self._require_agency()
        require(0 < scope and scope <= CATEGORIES_ALL, "malformed_scope")
        require(0 <= price and price <= PRICE_MAX, "malformed_price")
        require(0 < len(product) and len(product) <= CODE_CHARS_MAX, "malformed_product")
        for character in product:
            require(character in "abcdefghijklmnopqrstuvwxyz0123456789-", "malformed_product")
        key = (ctx.sender, product)
        if key in self.offers:
            return EXISTS
        self.offers[key] = Offer(scope=scope, price=price, version=1, retired=False)
        emit(ProductPublished(agency=ctx.sender, product=product, scope=scope, price=price))
        return OK

    @external
    def reprice(self, product: str, price: int) -> str:
        """Agency only: the price of orders made from now on."""
        self._require_agency()
        require(0 <= price and price <= PRICE_MAX, "malformed_price")
        offer = self.offers.get((ctx.sender, product), None)
        if offer is None:
            return UNKNOWN
        if offer.retired:
            return RETIRED
        self.offers[(ctx.sender, product)] = offer.replace(price=price, version=offer.version + 1)
        emit(ProductPriced(agency=ctx.sender, product=product, price=price, version=offer.version + 1))
        return OK

    @external
    def retire(self, product: str) -> str:
        """Agency only: no new orders; orders that exist go on."""
        self._require_agency()
        offer = self.offers.get((ctx.sender, product), None)
        if offer is None:
            return UNKNOWN
        self.offers[(ctx.sender, product)] = offer.replace(retired=True)
        emit(ProductRetired(agency=ctx.sender, product=product))
        return OK

    @view
    def offer(self, agency: Address, product: str) -> Offer | None:
        """The product as it stands, retired or not."""
        return self.offers.get((agency, product), None)

    def _require_agency(self):
        code = Registry(self.registry.get()).check(ctx.sender, AGENCY)
        require(code == OK, code)
