"""`-v`, `--tmpfs` and `--mount` as the create request carries them. No look at the disk but for relative paths.

Source: docker's reference pages "docker run" and "docker volume".
"""

import os

from corten.cli.args import Values, parse_bool, parse_size, split_csv
from corten.cli.errors import UsageError

_BIND_KEYS = ("bind-propagation", "bind-nonrecursive", "bind-recursive", "bind-create-src")


def bind_of(text: str) -> tuple[str, str]:
    """A `-v` value: (bind text with an absolute source, anonymous volume's path); one of the two is empty."""
    source, colon, rest = text.partition(":")
    if not colon or text == ":":
        return "", text
    return f"{os.path.abspath(source) if source.startswith('.') else source}:{rest}", ""


def volumes(values: Values) -> tuple[list[str] | None, dict[str, object]]:
    """HostConfig.Binds and Config.Volumes."""
    binds: list[str] = []
    anonymous: dict[str, object] = {}
    for text in values.many("volume"):
        bind, path = bind_of(text)
        if bind and bind not in binds:
            binds.append(bind)
        elif not bind:
            anonymous[path] = {}
    return binds or None, anonymous


def tmpfs(values: Values) -> dict[str, str]:
    """HostConfig.Tmpfs."""
    found = {}
    for text in values.many("tmpfs"):
        path, _, options = text.partition(":")
        found[path] = options
    return found


def _boolean(key: str, value: str, given: bool) -> bool:
    if not given:
        return True
    try:
        return parse_bool(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _bind_option(mount: dict[str, object], key: str, value: str, given: bool) -> None:
    options = mount.setdefault("BindOptions", {})
    assert isinstance(options, dict)
    if key == "bind-propagation":
        options["Propagation"] = value.lower()
    elif key == "bind-nonrecursive":
        options["NonRecursive"] = _boolean(key, value, given)
    elif key == "bind-create-src":
        options["CreateMountpoint"] = _boolean(key, value, given)
    elif value in ("enabled", ""):
        pass
    elif value == "disabled":
        options["NonRecursive"] = True
    elif value == "writable":
        options["ReadOnlyNonRecursive"] = True
    elif value == "readonly":
        options["ReadOnlyForceRecursive"] = True
    else:
        raise ValueError(f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")')


def _volume_option(mount: dict[str, object], key: str, value: str, given: bool) -> None:
    options = mount.setdefault("VolumeOptions", {})
    assert isinstance(options, dict)
    if key == "volume-nocopy":
        options["NoCopy"] = _boolean("volume-nocopy", value, given)
    elif key == "volume-subpath":
        options["Subpath"] = value
    elif key == "volume-driver":
        options.setdefault("DriverConfig", {})["Name"] = value
    else:
        name, _, content = value.partition("=")
        if key == "volume-label":
            options.setdefault("Labels", {})[name] = content
        else:
            options.setdefault("DriverConfig", {}).setdefault("Options", {})[name] = content


def _tmpfs_option(mount: dict[str, object], key: str, value: str) -> None:
    options = mount.setdefault("TmpfsOptions", {})
    assert isinstance(options, dict)
    try:
        if key == "tmpfs-size":
            options["SizeBytes"] = parse_size(value)
        else:
            options["Mode"] = int(value, 8)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _field(mount: dict[str, object], field: str) -> None:
    key, given, value = field.partition("=")
    key = key.lower()
    plain = {"type": "Type", "source": "Source", "src": "Source", "target": "Target", "dst": "Target",
             "destination": "Target", "consistency": "Consistency"}.get(key)
    switches = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src")
    if not given and key not in switches:
        raise ValueError(f"invalid field '{field}' must be a key=value pair")
    if plain == "Type":
        mount[plain] = value.lower()
    elif plain == "Source" and (value in (".", "..") or value.startswith(("./", "../"))):
        mount[plain] = os.path.abspath(value)
    elif plain:
        mount[plain] = value.lower() if plain == "Consistency" else value
    elif key in ("readonly", "ro"):
        mount["ReadOnly"] = _boolean(key, value, bool(given))
    elif key in _BIND_KEYS:
        _bind_option(mount, key, value, bool(given))
    elif key in ("volume-nocopy", "volume-subpath", "volume-driver", "volume-label", "volume-opt"):
        _volume_option(mount, key, value, bool(given))
    elif key in ("tmpfs-size", "tmpfs-mode"):
        _tmpfs_option(mount, key, value)
    elif key == "image-subpath":
        mount.setdefault("ImageOptions", {})["Subpath"] = value  # type: ignore[index]
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


_ORDER = ("Type", "Source", "Target", "ReadOnly", "Consistency", "BindOptions", "VolumeOptions", "ImageOptions",
          "TmpfsOptions")


def mount_of(text: str) -> dict[str, object]:
    """One `--mount` value. Raises UsageError with docker's texts."""
    mount: dict[str, object] = {"Type": "volume"}
    try:
        if not text:
            raise ValueError("value is empty")
        for field in split_csv(text):
            _field(mount, field)
        if not mount.get("Type"):
            raise ValueError("type is required")
        if not mount.get("Target"):
            raise ValueError("target is required")
        for options, kind in (("BindOptions", "bind"), ("VolumeOptions", "volume"), ("TmpfsOptions", "tmpfs")):
            if options in mount and mount["Type"] != kind:
                raise ValueError(f"cannot mix '{kind}-*' options with mount type '{mount['Type']}'")
        volume = mount.get("VolumeOptions")
        if isinstance(volume, dict):
            volume.setdefault("DriverConfig", {})
    except ValueError as error:
        raise UsageError(f'invalid argument "{text}" for "--mount" flag: {error}') from None
    return {key: mount[key] for key in _ORDER if key in mount and mount[key] not in (False, "")}


def mounts(values: Values) -> list[dict[str, object]]:
    """HostConfig.Mounts."""
    return [mount_of(text) for text in values.many("mount")]
