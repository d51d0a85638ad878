"""Pictures: large, seldom changed, and needing other machines than orders do."""

from html import escape

from service import route

COLOURS = {"tea": "#5a8f3c", "cup": "#b4501e", "pot": "#446688"}


@route("GET", r"/media/([a-z]+)\.svg")
def picture(asked):
    """A drawing."""
    name = asked.found[0]
    colour = escape(COLOURS.get(name, "#999"), True)
    return 200, (f'<svg xmlns="http://www.w3.org/2000/svg" width="120" height="120"><circle cx="60" cy="60" r="50" '
                 f'fill="{colour}"/><text x="60" y="66" text-anchor="middle">{name}</text></svg>\n')


@route("PUT", r"/media/([a-z]+)\.svg")
def paint(asked):
    """Another colour. The gateway lets partners with a key do this."""
    COLOURS[asked.found[0]] = str(asked.body["colour"])
    return 200, {"picture": asked.found[0]}
