"""Texts that users write, JSON or YAML, to documents. YAML here is what JSON can say: no tags, no anchors, no twins."""

import importlib.util
from typing import Any

from corten.base.errors import InvalidArgument, Unavailable
from corten.base.files import parse_json
from corten.base.jsonio import dumps
from corten.gateway.fields import Document
from corten.gateway.model import to_document

LIMIT_BYTES = 1 << 20
LIMIT_DOCUMENTS = 2000


def read(data: bytes) -> list[Document]:
    """The documents of a text: a JSON object or list, or YAML documents. Raises InvalidArgument, Unavailable."""
    if len(data) > LIMIT_BYTES:
        raise InvalidArgument(f"documents are longer than {LIMIT_BYTES} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"documents are not UTF-8: {error}") from None
    values = [parse_json(text)] if text.lstrip()[:1] in ("{", "[") else _yaml(text)
    flat: list[object] = []
    for value in values:
        flat += value if isinstance(value, list) else [value]
    if len(flat) > LIMIT_DOCUMENTS:
        raise InvalidArgument(f"more than {LIMIT_DOCUMENTS} documents at once")
    if not flat:
        raise InvalidArgument("there is no document")
    return [to_document(value, f"document {at}" if len(flat) > 1 else "") for at, value in enumerate(flat, 1)]


def _yaml(text: str) -> list[object]:
    if importlib.util.find_spec("yaml") is None:
        raise Unavailable("documents in YAML need PyYAML: install corten[gateway], or write JSON")
    import yaml

    class Strict(yaml.SafeLoader):  # type: ignore[misc]
        """Safe, and stricter: what two readers could take differently is refused."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):  # a few bytes could stand for gigabytes
                raise InvalidArgument("invalid YAML: anchors and aliases are not used here")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                    line = key.start_mark.line + 1
                    raise InvalidArgument(f"invalid YAML: line {line}: a name that is there twice, or is none")
                seen.add(key.value)
            return super().construct_mapping(node, deep=True)

    for letter, resolvers in list(Strict.yaml_implicit_resolvers.items()):  # a date is a text, as in JSON
        Strict.yaml_implicit_resolvers[letter] = [one for one in resolvers if not one[0].endswith(":timestamp")]
    found = []
    loader = Strict(text)
    try:
        while loader.check_data():
            value = loader.get_data()
            if value is not None:
                found.append(parse_json(dumps(value)))  # the same strictness as JSON, and nothing but JSON's values
    except (yaml.YAMLError, TypeError, RecursionError) as error:
        raise InvalidArgument(f"invalid YAML: {error}") from None
    finally:
        loader.dispose()
    return found
