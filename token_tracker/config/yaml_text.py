"""YAML as money needs it: decimals by their text, no key twice, and errors with line and column."""

from __future__ import annotations

import re
from decimal import Decimal

import yaml

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # PyYAML without its C library: slower, alike
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

_INT, _FLOAT, _MERGE = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "merge"))
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
# YAML 1.2's numbers: 1e-6 is one (YAML 1.1 reads text), 10:30 is none (YAML 1.1 reads 630).
_WHOLE = re.compile(r"[-+]?[0-9][0-9_]*$")
_DECIMAL = re.compile(r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?$")

NODES_MAX = 300_000  # of the file with each alias replaced by what it stands for; 5000 models need a third of it


class YamlError(Exception):
    """The text is no YAML that can be used; says where, and quotes nothing but keys."""


class _Loader(_SafeLoader):
    """The safe loader with our numbers; dates stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag not in (_INT, _FLOAT, _TIMESTAMP)]
    for first, resolvers in _SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INT, _WHOLE, list("-+0123456789"))
_Loader.add_implicit_resolver(_FLOAT, _DECIMAL, list("-+.0123456789"))
_Loader.add_constructor(_INT, lambda loader, node: int(str(node.value).replace("_", "")))
_Loader.add_constructor(_FLOAT, lambda loader, node: Decimal(str(node.value).replace("_", "")))


def load_yaml(text: str) -> object:
    """Mappings, lists, text, ints, Decimals, booleans and None. Raises YamlError."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, set(), {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        raise YamlError(_say(error.problem or error.context or "this is no YAML", error.problem_mark)) from None
    except (yaml.YAMLError, ValueError, ArithmeticError):
        raise YamlError("the file holds a character or a value that YAML does not allow") from None
    except RecursionError:
        raise YamlError("the file is nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()


def _check(node: yaml.Node, ancestors: set[int], sizes: dict[int, int]) -> int:
    """No key twice (PyYAML keeps the last without a word), no anchor inside itself, no more than NODES_MAX nodes: a
    few lines of aliases of aliases are billions. Gives the nodes that `node` stands for; `sizes`: those known."""
    if id(node) in ancestors:
        raise YamlError(_say("this anchor contains itself", node.start_mark))
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) in sizes:
        return sizes[id(node)]
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        children = [child for pair in node.value for child in pair]
    else:
        children = node.value
    inside = ancestors | {id(node)}
    size = 1 + sum(_check(child, inside, sizes) for child in children)
    if size > NODES_MAX:
        problem = f"this stands for more than {NODES_MAX} values, counted with what its aliases repeat; use fewer"
        raise YamlError(_say(problem, node.start_mark))
    sizes[id(node)] = size
    return size


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
            continue
        if key.value in seen:
            raise YamlError(_say(f"the key '{key.value}' is there twice", key.start_mark))
        seen.add(key.value)


def _say(problem: str, mark: yaml.error.Mark | None) -> str:
    return problem if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
