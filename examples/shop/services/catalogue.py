"""What can be bought: read all the time, changed by clerks now and then."""

from service import Problem, route

PRODUCTS = {
    "tea": {"title": "Green tea", "price": 4, "picture": "/media/tea.svg"},
    "cup": {"title": "A cup", "price": 9, "picture": "/media/cup.svg"},
    "pot": {"title": "A pot", "price": 25, "picture": "/media/pot.svg"},
}


@route("GET", "/catalogue")
def everything(asked):
    """All products."""
    return 200, PRODUCTS


@route("GET", "/catalogue/([a-z]+)")
def one(asked):
    """One product."""
    if asked.found[0] not in PRODUCTS:
        raise Problem(404, f"there is no product {asked.found[0]}")
    return 200, {"product": asked.found[0], **PRODUCTS[asked.found[0]]}


@route("PUT", "/catalogue/([a-z]+)")
def change(asked):
    """A new product, or another price. The gateway lets clerks alone do this."""
    name = asked.found[0]
    price = int(asked.body["price"])
    PRODUCTS[name] = {"title": name, "picture": f"/media/{name}.svg", **PRODUCTS.get(name, {}), "price": price}
    return 200, {"product": name, **PRODUCTS[name]}
