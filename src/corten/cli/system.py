"""`corten version` and `corten info`: what runs here and there."""

import os
import sys

from corten.base import jsonio
from corten.base.human import human_size_binary
from corten.cli.args import Values
from corten.cli.client import DEFAULT_VERSION
from corten.cli.errors import Failure
from corten.cli.main import Cli

Json = dict[str, object]

_DETAILS = (
    ("ApiVersion", "API version:"), ("PythonVersion", "Python version:"), ("GoVersion", "Go version:"),
    ("GitCommit", "Git commit:"), ("BuildTime", "Built:"), ("Os", "OS/Arch:"), ("Experimental", "Experimental:"),
)
_GO_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def _render(value: object, form: str) -> str:
    from corten.cli.template import TemplateError
    from corten.cli.template_run import Template

    if form == "json":
        return jsonio.dumps(value)
    try:
        template = Template(form.replace("\\t", "\t").replace("\\n", "\n"))
    except TemplateError as error:
        raise Failure(f"template parsing error: {error.text}", 64) from None
    try:
        return template.render(value, strict=True)
    except TemplateError as error:
        raise Failure(f"template parsing error: {error.text}") from None


def _client(cli: Cli) -> Json:
    from corten import __version__

    machine = os.uname().machine
    return {
        "Version": __version__, "ApiVersion": cli.client.version, "APIVersion": cli.client.version,
        "DefaultAPIVersion": ".".join(map(str, DEFAULT_VERSION)),
        "PythonVersion": ".".join(map(str, sys.version_info[:3])), "Os": os.uname().sysname.lower(),
        "Arch": _GO_MACHINES.get(machine, machine), "Context": "default",
    }


def _client_lines(client: Json) -> list[str]:
    rows = (("Version:", client["Version"]), ("API version:", client["ApiVersion"]),
            ("Python version:", client["PythonVersion"]), ("OS/Arch:", f"{client['Os']}/{client['Arch']}"),
            ("Context:", client["Context"]))
    return ["Client:", *(f" {name:<18} {value}" for name, value in rows)]


def _component_lines(component: Json, server: Json) -> list[str]:
    details = component.get("Details")
    details = details if isinstance(details, dict) else {}
    lines = [f" {component.get('Name', '')}:", f"  {'Version:':<17} {component.get('Version', '')}"]
    for key, title in _DETAILS:
        if not details.get(key):
            continue
        value = str(details[key])
        if key == "ApiVersion":
            value += f" (minimum version {details.get('MinAPIVersion', server.get('MinAPIVersion', ''))})"
        elif key == "Os":
            value += f"/{details.get('Arch', '')}"
        lines.append(f"  {title:<17} {value}")
    return lines


def version(cli: Cli, values: Values) -> None:
    """`corten version`. GET /version."""
    form = values.text("format")
    failure: Failure | None = None
    server: Json | None = None
    try:
        found = cli.client.call("GET", "/version")
        server = found if isinstance(found, dict) else {}
        server.setdefault("APIVersion", server.get("ApiVersion", ""))
    except Failure as error:
        failure = error
    client = _client(cli)
    if form:
        cli.out(_render({"Client": client, "Server": server}, form))
    else:
        lines = _client_lines(client)
        if server is not None:
            platform = server.get("Platform")
            name = str(platform.get("Name", "")) if isinstance(platform, dict) else ""
            lines += ["", f"Server: {name}".rstrip()]
            for component in server.get("Components") or []:  # type: ignore[attr-defined]
                lines += _component_lines(component, server)
        cli.out("\n".join(lines))
    if failure:
        raise failure


# what `info` prints of the engine's answer: JSON name, title; a switch is shown as true or false
_FIRST = (("Containers", " Containers"), ("ContainersRunning", "  Running"), ("ContainersPaused", "  Paused"),
          ("ContainersStopped", "  Stopped"), ("Images", " Images"), ("ServerVersion", " Server Version"),
          ("Driver", " Storage Driver"))
_LOG = (("LoggingDriver", " Logging Driver"), ("CgroupDriver", " Cgroup Driver"), ("CgroupVersion", " Cgroup Version"))
_SYSTEM = (("KernelVersion", " Kernel Version"), ("OperatingSystem", " Operating System"), ("OSType", " OSType"),
           ("Architecture", " Architecture"), ("NCPU", " CPUs"))
_LAST = (("Name", " Name"), ("ID", " ID"), ("DockerRootDir", " Root Dir"), ("Debug", " Debug Mode"))


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pairs(info: Json, table: tuple[tuple[str, str], ...]) -> list[str]:
    return [f"{title}: {_shown(info[key])}" for key, title in table if key in info]


def _plugin_lines(info: Json) -> list[str]:
    plugins = info.get("Plugins")
    lines = [" Plugins:"] if isinstance(plugins, dict) else []
    for name in ("Volume", "Network", "Authorization", "Log"):
        found = plugins.get(name) if isinstance(plugins, dict) else None
        if found:
            lines.append(f"  {name}: {' '.join(found)}")
    return lines


def _security_lines(info: Json) -> list[str]:
    lines = []
    for option in info.get("SecurityOptions") or []:  # type: ignore[attr-defined]
        pairs = [part.partition("=")[::2] for part in str(option).split(",")]
        lines += [f"  {value}" if key == "name" else f"   {key.capitalize()}: {value}" for key, value in pairs]
    return [" Security Options:", *lines] if lines else []


def _registry_lines(info: Json) -> list[str]:
    registry = info.get("RegistryConfig")
    if not isinstance(registry, dict):
        return []
    lines: list[str] = []
    insecure = [str(name) for name, one in (registry.get("IndexConfigs") or {}).items() if not one.get("Secure", True)]
    insecure += [str(one) for one in registry.get("InsecureRegistryCIDRs") or []]
    if insecure:
        lines += [" Insecure Registries:", *(f"  {name}" for name in insecure)]
    if registry.get("Mirrors"):
        lines += [" Registry Mirrors:", *(f"  {name}" for name in registry["Mirrors"])]
    return lines


def _server_lines(info: Json) -> list[str]:
    lines = _pairs(info, _FIRST)
    lines += [f"  {name}: {value}" for name, value in info.get("DriverStatus") or []]  # type: ignore[attr-defined]
    lines += _pairs(info, _LOG) + _plugin_lines(info)
    swarm = info.get("Swarm")
    if isinstance(swarm, dict):
        lines.append(f" Swarm: {swarm.get('LocalNodeState', 'inactive')}")
    runtimes = info.get("Runtimes")
    if isinstance(runtimes, dict):
        lines.append(f" Runtimes: {' '.join(sorted(runtimes))}")
    lines += _pairs(info, (("DefaultRuntime", " Default Runtime"), ("InitBinary", " Init Binary")))
    lines += _security_lines(info) + _pairs(info, _SYSTEM)
    memory = info.get("MemTotal")
    if isinstance(memory, int):
        lines.append(f" Total Memory: {human_size_binary(memory)}")
    lines += _pairs(info, _LAST)
    for label in info.get("Labels") or []:  # type: ignore[attr-defined]
        lines.append(f"  {label}")
    lines.append(f" Experimental: {_shown(info.get('ExperimentalBuild', False))}")
    lines += _registry_lines(info)
    lines += _pairs(info, (("LiveRestoreEnabled", " Live Restore Enabled"),))
    return lines


def info(cli: Cli, values: Values) -> None:
    """`corten info`. GET /info."""
    form = values.text("format")
    client = _client(cli)
    head = ["Client:", f" Version:    {client['Version']}", " Context:    default", " Debug Mode: false", "", "Server:"]
    try:
        found = cli.client.call("GET", "/info")
    except Failure:
        if not form:
            cli.out("\n".join(head))
        raise
    assert isinstance(found, dict)
    if form:
        cli.out(_render({**found, "ClientInfo": client}, form))
        return
    cli.out("\n".join(head + _server_lines(found)) + "\n")
    for warning in found.get("Warnings") or []:
        cli.error(str(warning))
