"""runtime-spec's own schema against ours: `spec_schema.py CHECKOUT`, a checkout of opencontainers/runtime-spec.

Its samples of config.json are loaded as a bundle's: the good ones must be taken, the bad ones refused. What we print as
`features` and `state` must fit its schemas; the samples of those show that the reading of the schema here is right.
Fields of its config schema that our table lacks are listed. Exit status 1 when anything is not so.
"""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "src"))

from corten.base.errors import InvalidArgument
from corten.base.files import parse_json
from corten.linux import capabilities, schedule, seccomp
from corten.linux.seccomp_tables import ARCHITECTURES
from corten.oci import config_shape, runtime_spec
from corten.runtime import mount_options
from corten.runtime.bundle import load_bundle

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
OTHER_SYSTEMS = ("solaris", "windows", "vm", "zos", "freebsd")
NOT_OURS = {"process.commandLine", "process.user.username"}  # Windows


class Schema:
    """A folder of draft-04 schemas, as far as these files use the language."""

    def __init__(self, folder):
        self.folder = folder
        self.files = {}

    def resolve(self, node, name):
        while "$ref" in node:
            name, _, pointer = (node["$ref"] if not node["$ref"].startswith("#") else name + node["$ref"]).partition("#")
            node = self.file(name)
            for part in pointer.strip("/").split("/"):
                node = node[part] if part else node
        return node, name

    def file(self, name):
        if name not in self.files:
            self.files[name] = json.loads((self.folder / name).read_text())
        return self.files[name]

    def fits(self, value, node, name):
        node, name = self.resolve(node, name)
        for key, every in (("allOf", all), ("anyOf", any), ("oneOf", any)):
            if key in node and not every(self.fits(value, inner, name) for inner in node[key]):
                return False
        if "enum" in node and value not in node["enum"]:
            return False
        kind = TYPES.get(node.get("type", ""))
        if kind and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            return False
        if isinstance(value, dict):
            return self.object_fits(value, node, name)
        if isinstance(value, list) and "items" in node:
            return all(self.fits(item, node["items"], name) for item in value)
        if isinstance(value, int) and not isinstance(value, bool):
            return node.get("minimum", value) <= value <= node.get("maximum", value)
        return True

    def object_fits(self, value, node, name):
        if any(field not in value for field in node.get("required", ())):
            return False
        known = node.get("properties", {})
        others = [*node.get("patternProperties", {}).values()]
        if isinstance(node.get("additionalProperties"), dict):
            others.append(node["additionalProperties"])
        for field, item in value.items():
            inner = known.get(field) or (others[0] if others else None)
            if inner is not None and not self.fits(item, inner, name):
                return False
        return True

    def fields(self, node, name, where=""):
        node, name = self.resolve(node, name)
        found = set()
        for inner in (*node.get("allOf", ()), *node.get("anyOf", ())):
            found |= self.fields(inner, name, where)
        if "properties" in node:
            for field, inner in node["properties"].items():
                found |= self.fields(inner, name, f"{where}.{field}".lstrip("."))
        elif node.get("patternProperties"):
            found |= self.fields(next(iter(node["patternProperties"].values())), name, f"{where}.*")
        elif isinstance(node.get("additionalProperties"), dict):
            found |= self.fields(node["additionalProperties"], name, f"{where}.*")
        elif "items" in node:
            found |= self.fields(node["items"], name, f"{where}[]")
        elif "allOf" not in node and "anyOf" not in node:
            found.add(where)
        return found


def loads(data):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_bytes(data)
        try:
            load_bundle("sample", folder)
        except InvalidArgument as error:
            return str(error)
    return ""


def documents(schema, name, data):
    try:
        return schema.fits(parse_json(data), schema.file(name), name)
    except InvalidArgument:
        return False


def main(checkout):
    schema = Schema(Path(checkout) / "schema")
    wrong = []
    for path in sorted((schema.folder / "test").glob("*/*/*.json")):
        kind, verdict = path.parts[-3], path.parts[-2]
        if kind == "config":
            reason = loads(path.read_bytes())
            taken = not reason
        else:
            taken, reason = documents(schema, f"{kind}-schema.json", path.read_bytes()), ""
        good = taken == (verdict == "good")
        print("ok" if good else "not ok", kind, verdict, path.name, reason)
        wrong += [] if good else [path]
    features = runtime_spec.features(
        mount_options.words(), list(capabilities.NAMES), list(seccomp.ACTIONS), list(ARCHITECTURES),
        [f"SCMP_CMP_{word}" for word in seccomp.OPERATORS], list(seccomp.FLAGS), list(schedule.MEMORY_MODES),
        list(schedule.MEMORY_FLAGS))
    state = {"ociVersion": runtime_spec.VERSION, "id": "a", "status": "running", "pid": 1, "bundle": "/b"}
    for name, document in (("features", features), ("state", state)):
        good = schema.fits(document, schema.file(f"{name}-schema.json"), f"{name}-schema.json")
        print("ok" if good else "not ok", "our", name)
        wrong += [] if good else [name]
    theirs = {field for field in schema.fields(schema.file("config-schema.json"), "config-schema.json")
              if field.split(".")[0] not in OTHER_SYSTEMS} - NOT_OURS
    missing = sorted(theirs - set(config_shape.fields()))
    print("ok" if not missing else "not ok", f"fields: {len(theirs)}", *missing)
    return 1 if wrong or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
