"""Orders: asks the catalogue for the price, users for the address, and has notify tell the customer."""

import threading

from service import Problem, call, route

ORDERS = []
LOCK = threading.Lock()


@route("POST", "/orders")
def place(asked):
    """A new order of the one who asks."""
    product, amount = asked.body["product"], int(asked.body.get("amount", 1))
    if amount < 1:
        raise Problem(400, "how many?")
    price = call("catalogue", "GET", f"/catalogue/{product}", asked)["price"]
    mail = call("users", "GET", f"/users/{asked.user}", asked)["mail"]
    with LOCK:
        order = {"order": len(ORDERS) + 1, "customer": asked.user, "product": product, "amount": amount,
                 "total": amount * price}
        ORDERS.append(order)
    call("notify", "POST", "/notes", asked, {"to": mail, "text": f"{amount} x {product} is on its way"})
    return 201, order


@route("GET", "/orders")
def mine(asked):
    """One's own; for clerks all."""
    return 200, [order for order in ORDERS if asked.role == "clerk" or order["customer"] == asked.user]
