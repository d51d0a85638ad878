"""Names for containers that were given none: an adjective and a noun. Pure."""

import random

ADJECTIVES = (  # noqa: SIM905
    "agile amber ample arctic autumn azure balmy bold brave breezy bright brisk calm candid careful cheerful chilly "
    "civil clear clever coastal cobalt copper coral cosmic crisp curious dapper daring dawning deep dewy diligent "
    "earnest eager early easy electric emerald even fabled fair faithful fearless festive fine fleet floral fluent "
    "fond frank fresh frosty gentle gilded glad gleaming golden graceful grand green handy happy hardy hazel honest "
    "humble icy ideal indigo ivory jade jolly keen kind lavish level light lively lofty loyal lucid lucky lunar "
    "mellow merry mild misty modest mossy neat nimble noble oaken opal open patient peaceful pearly placid plain "
    "polar prime proud pure quick quiet rapid ready regal robust rosy rustic sandy scarlet serene sharp shining "
    "silent silver simple sleek smart snowy solar solid sonic spry stable starry steady still stoic sunny supple "
    "swift tidy topaz tranquil true upbeat valiant velvet verdant vivid warm wandering wild winter wise witty zesty"
).split()

NOUNS = (  # noqa: SIM905
    "acorn alder antler apple arrow aspen badger bamboo barley basin bay beacon beaver beech birch bison bluff bobcat "
    "boulder bramble brook canyon cape cedar cherry cliff clover comet condor coral cove coyote crane creek cricket "
    "crow cypress dale delta desert dolphin dove dune eagle elk elm ember falcon fern finch fjord forest fox garnet "
    "geyser glacier glade gorge grove gull harbor hare hawk hazel heath heron hill hornet ibis island ivy jackal jay "
    "juniper kestrel kite lagoon lake larch lark lava leaf lichen lily lizard lotus lynx magpie mango maple marlin "
    "marsh marten meadow mesa meteor mint moon moose moss nebula newt oasis ocean olive orchid oriole osprey otter "
    "owl panther peak pebble pelican petrel pine plover pond poplar prairie quail quartz rabbit rapids raven reed reef "
    "ridge river robin rowan sable salmon sparrow spring spruce star stone stork summit swallow swan tern thicket "
    "thistle thrush tide tiger timber trout tulip tundra valley walnut warbler wave willow wolf wren yarrow zebra"
).split()


def random_name(attempt: int = 0) -> str:
    """`brisk_otter`; from the third attempt on with a digit, so that a crowded table still finds one."""
    name = f"{random.choice(ADJECTIVES)}_{random.choice(NOUNS)}"  # noqa: S311 - a name is no secret
    return name if attempt < 3 else f"{name}{random.randrange(10 ** (attempt - 2))}"  # noqa: S311
