"""What users are shown of trust: who is who, and who may call whom. Pure."""

from collections.abc import Iterable
from typing import Any

from corten.engine.records import ContainerRecord
from corten.gateway import trust, xds_mesh
from corten.gateway.identities import Identities
from corten.gateway.members import Member, service_of

Row = dict[str, Any]


def rows(records: Iterable[ContainerRecord], members: Iterable[Member], identities: Identities) -> list[Row]:
    """Every running container: level, identity, until when its certificate is good (Unix time, 0: it has none)."""
    meshed = {member.id: member for member in members}
    found = []
    for record in records:
        member = meshed.get(record.id)
        if member is None:
            found.append({"Container": record.name, "Service": service_of(record), "Level": "full", "Identity": "",
                          "State": "", "Expires": 0, "Http": [], "Tcp": []})
            continue
        held = identities.held.get(xds_mesh.identity(member))
        found.append({
            "Container": member.name, "Service": member.service, "Level": member.level,
            "Identity": trust.uri(identities.authority.domain, member.service),
            "State": "revoked" if member.revoked else "valid", "Expires": int(held.end) if held else 0,
            "Http": member.http, "Tcp": member.tcp})
    return sorted(found, key=lambda row: (row["Service"], row["Container"]))


def matrix(records: Iterable[ContainerRecord], members: Iterable[Member]) -> list[Row]:
    """For each running service as a caller what it may do with each other one, in words; `-` is nothing."""
    meshed = {member.service: member for member in members}
    levels = {service_of(record): "full" for record in records} | {name: one.level for name, one in meshed.items()}
    return [
        {"Caller": caller, "Level": levels[caller], "Calls": {
            callee: _cell(meshed.get(caller), meshed.get(callee), caller)
            for callee in sorted(levels) if callee != caller}}
        for caller in sorted(levels)] + [{"Caller": trust.GATEWAY, "Level": "", "Calls": {
            name: _routed(meshed.get(name)) for name in sorted(levels)}}]


def _routed(callee: Member | None) -> str:
    """What the edge may do: full containers are reached whether or not a route leads there."""
    if callee is None:
        return "plain"
    return f"tls: port {','.join(map(str, sorted(callee.edge)))}" if callee.edge and not callee.revoked else "-"


def _cell(caller: Member | None, callee: Member | None, name: str) -> str:
    if caller is None and callee is None:
        return "plain"
    if caller is None or callee is None or caller.revoked or callee.revoked:
        return "-"
    kind = "tls" if "zero" in (caller.level, callee.level) else "known"
    words = [_words(rule) for rule in callee.rules if rule.lets(name)]
    return f"{kind}: {'; '.join(words)}" if words else "-"


def _words(rule: trust.Rule) -> str:
    what = [",".join(rule.methods), *rule.paths, f"port {','.join(map(str, rule.ports))}" if rule.ports else ""]
    return " ".join(one for one in what if one) or "all"
