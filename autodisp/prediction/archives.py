"""Looks through a ``.pt2`` archive for whatever would run code, before torch opens it.

torch.export.load unpickles what an archive declares as pickled, evaluates the sizes in a program as Python (sympy's
``sympify``), takes any name below ``torch`` for an operator (``torch.os.system`` is one), and imports the modules that
the description of an input names. autodisp-export writes none of that: numbers, operators of ATen, arithmetic over
sizes, tuples. Anything else is refused, so that a program can do no more than compute.
"""

import ast
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from autodisp.errors import InputError, in_one_line

_PROGRAM = "models/model.json"
_PLAIN = re.compile(
    r"[^/]+/(\w+|\.data/\w+|models/model\.json|extra/[^/]+|data/sample_inputs/model\.pt"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json))"
)
"""The entries that hold JSON, plain text or raw numbers."""
_OF_PYTHON = re.compile(
    r"_operator\.(add|sub|mul|floordiv|truediv|mod|neg|ge|gt|le|lt|eq|ne|and_|or_|getitem)|math\.(ceil|floor|trunc)"
    r"|torch\.sym_(max|min|not|int|float|ite|sum)"
)
"""What a program may call beside ATen."""
_FUNCTIONS = frozenset(
    ("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Max", "Min", "FloorDiv", "CeilDiv", "CleanDiv", "Mod",
     "PythonMod", "IntTrueDiv", "ToFloat", "TruncToInt", "Eq", "Ne", "Ge", "Gt", "Le", "Lt", "Equality", "Unequality",
     "GreaterThan", "LessThan", "StrictGreaterThan", "StrictLessThan", "And", "Or", "Not")
)  # fmt: skip
"""Of sizes."""
_ARITHMETIC = (ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.UnaryOp, ast.USub)
_CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")
_ODD_KEYS = ("as_operator", "as_custom_obj", "as_graph", "as_string_to_argument")
"""Kinds of argument that are more than numbers and tensors."""


def refuse_code(path: Path) -> None:
    """Looks through the archive.

    Raises:
        InputError: it is damaged, or holds what torch would unpickle or run, or anything else than a program and
            numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
            damaged = None if packed else archive.testzip()
            odd = None if packed or damaged else next(_odd_parts(archive), None)
    except Exception as error:  # zipfile and json raise whatever the malformed bytes lead them to
        found = f"{type(error).__name__}: {in_one_line(error)}"
        raise InputError(f"{path}: no readable .pt2 archive ({found}); is it cut off?") from None
    if packed:
        raise InputError(f"{path}: holds compressed parts, which autodisp-export does not write; export it again")
    if damaged is not None:
        raise InputError(f"{path}: is damaged in {in_one_line(damaged)}; copy or export it again")
    if odd is not None:
        raise InputError(
            f"{path}: holds {in_one_line(odd)}, which autodisp-export does not write and which torch might unpickle or "
            "run; only files of autodisp-export can be used"
        )


def _odd_parts(archive: zipfile.ZipFile) -> Iterator[str]:
    seen = set()
    for entry in archive.infolist():
        name = entry.filename
        if not _PLAIN.fullmatch(name) or (name.endswith(".pt") and entry.file_size) or name in seen:
            yield name
        elif name.endswith("_config.json"):
            payloads = json.loads(archive.read(name))["config"].values()
            yield from (f"{name} with a pickled part" for payload in payloads if payload["use_pickle"])
        elif name.endswith(_PROGRAM):
            yield from (f"{name} with {odd}" for odd in _odd_values(json.loads(archive.read(name))))
        seen.add(name)


def _odd_values(tree: Any) -> Iterator[str]:
    """What in a program is more than a computation on tensors."""
    if isinstance(tree, list):
        for part in tree:
            yield from _odd_values(part)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if (key == "target" and not _is_operator(value)) or (key in _ODD_KEYS and value is not None):
                yield f"the operator {value!r}"
            elif key == "expr_str" and not _is_arithmetic(value):
                yield f"the size {value!r}"
            elif key in ("in_spec", "out_spec") and not _is_plain_spec(json.loads(value)):
                yield f"the container {value!r}"
            else:
                yield from _odd_values(value)


def _is_operator(target: Any) -> bool:
    """Whether it names an operator that computes: of ATen, none of its two that open files, or one of Python's."""
    if not isinstance(target, str):
        return False
    if _OF_PYTHON.fullmatch(target):
        return True
    found = re.fullmatch(r"torch\.ops\.aten\.(\w+)\.(\w+)", target)
    packet = getattr(torch.ops.aten, found[1], None) if found else None
    if found is None or not isinstance(packet, torch._ops.OpOverloadPacket) or found[2] not in packet.overloads():
        return False
    schema = getattr(packet, found[2])._schema
    return all(argument.name != "filename" for argument in schema.arguments)


def _is_arithmetic(text: Any) -> bool:
    """Whether it is nothing but known functions of whole numbers and sizes."""
    if not isinstance(text, str):
        return False
    for node in ast.walk(ast.parse(text, mode="eval")):
        if not isinstance(node, _ARITHMETIC):
            return False
        if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS):
            return False
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not re.fullmatch(r"\w+", node.value):
            return False
    return True


def _is_plain_spec(tree: Any) -> bool:
    """Whether the inputs or outputs are tuples, lists and dictionaries, which need no import."""
    if isinstance(tree, list):
        return all(map(_is_plain_spec, tree))
    if isinstance(tree, dict):
        return tree.get("type") in _CONTAINERS and all(map(_is_plain_spec, tree.values()))
    return True
