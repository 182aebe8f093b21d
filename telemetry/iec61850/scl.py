"""A device as its SCL file describes it (IEC 61850-6: ICD, CID, IID, SCD), in the form a device itself is asked in.

A file comes from a vendor's mail: it is read without entities, without a document type, without the network, and up to
a size and depth. Names of domains, nodes and blocks follow IEC 61850-8-1: IED name and LD inst (or ldName), prefix,
class and inst, and two digits for each instance of an indexed block. What a device serves may differ from its file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from telemetry.iec61850 import layout as lay
from telemetry.iec61850.errors import SclError, SubscribeError
from telemetry.iec61850.link import BlockStatus

MOST_OCTETS: Final = 256 << 20  # substations of hundreds of devices stay below
MOST_DEPTH: Final = 200  # elements in elements
MOST_TYPES_DEEP: Final = 20
MOST_NODES: Final = 1_000_000  # of all types together, spelt out: types that use types twice make much of little
MOST_INSTANCES: Final = 99
OTHER: Final = -1
KINDS: Final = {
    "FLOAT32": lay.FLOAT,
    "FLOAT64": lay.FLOAT,
    "Quality": lay.BIT_STRING,
    "Timestamp": lay.UTC_TIME,
}
NAMESPACE: Final = "http://www.iec.ch/61850/2003/SCL"
SUFFIXES: Final = (".icd", ".cid", ".iid", ".scd", ".scl")


class SclModel:
    """A `link.Browsable`. Raises SclError for a file that is none, or is malformed where we read it."""

    def __init__(self, path: Path) -> None:
        self.source = str(path)
        root = _parse(path)
        self._templates = _Templates(root, self.source)
        self._variables: dict[str, list[str]] = {}
        self._types: dict[str, lay.Spec] = {}
        self._sets: dict[str, list[tuple[str, str]]] = {}
        self._blocks: dict[str, BlockStatus] = {}
        for ied in root.findall("IED"):
            self._add_ied(ied)
        if not self._variables:
            raise SclError(f"{path}: no IED with a logical device in it; give an ICD, CID, IID or SCD file")

    def domains(self) -> list[str]:
        """Names of the logical devices, of every IED in the file."""
        return list(self._variables)

    def variables(self, domain: str) -> list[str]:
        """MMS names of data objects under MX and of report control blocks."""
        return self._variables[domain]

    def members(self, data_set: str) -> list[tuple[str, str]]:
        """(reference, functional constraint) of each member of a data set. Raises SubscribeError if there is none."""
        found = self._sets.get(data_set)
        if found is None:
            raise SubscribeError(f"read data set {data_set}", reason="the file has no such data set")
        return found

    def type_of(self, ref: str) -> lay.Spec:
        """The type of a data object or attribute under MX. Raises SubscribeError if there is none."""
        node, _, path = ref.partition(".")
        first, *rest = path.split(".")
        spec = self._types.get(f"{node}.{first}")
        for name in rest:
            spec = next((child for child in spec.children if child.name == name), None) if spec else None
        if spec is None:
            raise SubscribeError(f"read type of {ref}", reason="the file has no such object under MX")
        return spec

    def status(self, block: str) -> BlockStatus:
        """A block as it is configured; whom it serves, a file does not know."""
        return self._blocks[block]

    def _add_ied(self, ied: Element) -> None:
        name = _needed(ied, "name", self.source)
        devices = [device for server in ied.iter("Server") for device in server.findall("LDevice")]
        domains = {
            _needed(device, "inst", self.source): device.get("ldName") or f"{name}{device.get('inst')}"
            for device in devices
        }
        for device in devices:
            domain = domains[device.get("inst", "")]
            names = self._variables.setdefault(domain, [])
            for node in (*device.findall("LN0"), *device.findall("LN")):
                names += self._add_node(domain, node, domains)

    def _add_node(self, domain: str, node: Element, domains: dict[str, str]) -> list[str]:
        name = f"{node.get('prefix', '')}{_needed(node, 'lnClass', self.source)}{node.get('inst', '')}"
        names = []
        for spec in self._templates.node(_needed(node, "lnType", self.source)):
            names.append(f"{name}$MX${spec.name}")
            self._types[f"{domain}/{name}.{spec.name}"] = spec
        for data_set in node.findall("DataSet"):
            reference = f"{domain}/{name}${_needed(data_set, 'name', self.source)}"
            self._sets[reference] = [_member(entry, domain, domains) for entry in data_set.findall("FCDA")]
        for block in node.findall("ReportControl"):
            names += self._add_block(domain, name, block)
        return names

    def _add_block(self, domain: str, node: str, block: Element) -> list[str]:
        name, kind = _needed(block, "name", self.source), "BR" if block.get("buffered") == "true" else "RP"
        enabled = block.find("RptEnabled")
        most = _number(enabled, "max", self.source) if enabled is not None else 1
        if block.get("indexed", "true") == "true":
            instances = [f"{name}{number:02d}" for number in range(1, min(most, MOST_INSTANCES) + 1)]
        else:
            instances = [name]
        data_set = block.get("datSet")
        for instance in instances:
            ref = f"{domain}/{node}.{kind}.{instance}"
            self._blocks[ref] = BlockStatus(
                ref, f"{domain}/{node}${data_set}" if data_set else "", block.get("rptID") or ""
            )
        return [f"{node}${kind}${instance}" for instance in instances]


class _Templates:
    """DataTypeTemplates: data objects under MX, by logical node type."""

    def __init__(self, root: Element, source: str) -> None:
        self._source, self._nodes = source, 0
        self._known: dict[str, list[lay.Spec]] = {}
        kinds = ("LNodeType", "DOType", "DAType")
        found = root.findall("DataTypeTemplates")
        self._of = {kind: {e.get("id", ""): e for t in found for e in t.findall(kind)} for kind in kinds}

    def node(self, type_id: str) -> list[lay.Spec]:
        """Those with anything under MX."""
        if type_id not in self._known:
            objects = self._get("LNodeType", type_id).findall("DO")
            specs = [self._object(_needed(do, "name", self._source), do.get("type", ""), 0) for do in objects]
            self._known[type_id] = [spec for spec in specs if spec.children]
        return self._known[type_id]

    def _object(self, name: str, type_id: str, depth: int) -> lay.Spec:
        children = []
        for child in self._get("DOType", type_id, depth):
            if child.tag == "SDO" and not child.get("count"):
                part = self._object(_needed(child, "name", self._source), child.get("type", ""), depth + 1)
                children += [part] if part.children else []
            elif child.tag == "DA" and child.get("fc") == "MX":
                children.append(self._attribute(child, depth + 1))
        return lay.Spec(name, lay.STRUCTURE, tuple(children))

    def _attribute(self, element: Element, depth: int) -> lay.Spec:
        name, kind = _needed(element, "name", self._source), element.get("bType", "")
        if element.get("count"):  # an array
            return lay.Spec(name, OTHER)
        if kind != "Struct":
            return lay.Spec(name, KINDS.get(kind, OTHER))
        parts = self._get("DAType", element.get("type", ""), depth).findall("BDA")
        return lay.Spec(name, lay.STRUCTURE, tuple(self._attribute(part, depth + 1) for part in parts))

    def _get(self, kind: str, type_id: str, depth: int = 0) -> Element:
        found = self._of[kind].get(type_id)
        if found is None:
            raise SclError(f"{self._source}: {kind} {type_id!r} is used and not defined; ask for a complete file")
        self._nodes += len(found) + 1
        if depth > MOST_TYPES_DEEP or self._nodes > MOST_NODES:
            raise SclError(f"{self._source}: {kind} {type_id!r} contains itself, or too much; ask for a valid file")
        return found


def _member(entry: Element, own: str, domains: dict[str, str]) -> tuple[str, str]:
    """An FCDA; one of a device that the file does not have keeps its inst as the name."""
    inst = entry.get("ldInst", "")
    node = f"{entry.get('prefix', '')}{entry.get('lnClass', '')}{entry.get('lnInst', '')}"
    path = ".".join(part for part in (node, entry.get("doName", ""), entry.get("daName", "")) if part)
    return f"{domains.get(inst, inst) or own}/{path}", entry.get("fc", "")


def _needed(element: Element, name: str, source: str) -> str:
    value = element.get(name)
    if value is None:
        raise SclError(f"{source}: a {element.tag} has no {name}; ask for a valid file")
    return value


def _number(element: Element, name: str, source: str) -> int:
    text = element.get(name, "1")
    if not text.isascii() or not text.isdigit():
        raise SclError(f"{source}: {element.tag}.{name} is {text[:20]!r}, not a number; ask for a valid file")
    return int(text[:6])


def _parse(path: Path) -> Element:
    """The root, with local names only. Raises SclError."""
    try:
        size = path.stat().st_size
        text = path.read_bytes() if size <= MOST_OCTETS else b""
    except OSError as error:
        raise SclError(f"{path}: cannot be read: {error.strerror}; give an ICD, CID, IID or SCD file") from error
    if size > MOST_OCTETS:
        raise SclError(f"{path}: {size} octets are more than {MOST_OCTETS}; cut the devices of interest out of it")
    if text[:2] == b"\x1f\x8b":
        raise SclError(f"{path}: compressed; unpack it first")
    root = _Builder(path).build(text)
    if root.tag != "SCL":
        raise SclError(f"{path}: the document is <{root.tag[:40]}>, not <SCL>; give an ICD, CID, IID or SCD file")
    return root


class _Builder:
    """expat with everything refused that can reach beyond the file or make much of little."""

    def __init__(self, path: Path) -> None:
        self._path, self._depth, self._tree = path, 0, TreeBuilder()
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._doctype

    def build(self, text: bytes) -> Element:
        """The root. Raises SclError."""
        try:
            self._parser.Parse(text, True)
        except expat.ExpatError as error:
            raise SclError(f"{self._path}: not XML: {error}; give an ICD, CID, IID or SCD file") from error
        return self._tree.close()

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise SclError(f"{self._path}: elements are nested deeper than {MOST_DEPTH}; ask for a valid file")
        self._tree.start(_local(tag), attributes)

    def _end(self, tag: str) -> None:
        self._depth -= 1
        self._tree.end(_local(tag))

    def _doctype(self, *_: object) -> None:
        raise SclError(f"{self._path}: has a document type, which SCL has no use for; remove it")


def _local(tag: str) -> str:
    """SCL's own elements by their name, whatever prefix the file gives them; a vendor's keep their name space."""
    return tag.removeprefix(f"{NAMESPACE} ")
