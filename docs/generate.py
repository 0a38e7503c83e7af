"""Write what the pages take from the code: the tree, the commands and the public names.

python docs/generate.py            write
python docs/generate.py --check    fail if a page is not what the code says

A page holds `<!-- generated: what package -->`, and what stands from there to `<!-- end -->` is
made anew. Names and signatures are read from the sources and options from the parsers' own objects,
so that every version of Python, with or without extras, on any terminal, makes the same pages.
"""

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ["ARCHITECTURE.md", "docs/api.md", "docs/cli.md"]
PACKAGES = {
    "spladelet": ROOT / "runtime" / "spladelet",
    "spladelet_export": ROOT / "export" / "spladelet_export",
}
_WIDTH = 96
_BLOCK = re.compile(r"(<!-- generated: (\w+) ([\w.-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_LISTS = ("Args:", "Attributes:", "Raises:", "Warns:")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.ClassDef | Function | ast.Assign | ast.AnnAssign | ast.Module


def main() -> None:
    """Write the pages, or check them."""
    stale = []
    for name in PAGES:
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        fresh = fill(text)
        if "--check" not in sys.argv:
            path.write_text(fresh, encoding="utf-8")
        elif fresh != text:
            stale.append(name)
    if stale:
        raise SystemExit(f"stale: {', '.join(stale)}; run `python docs/generate.py`")


def fill(text: str) -> str:
    """Put what is made of the code between its markers."""
    return _BLOCK.sub(lambda match: f"{match[1]}{MAKERS[match[2]](match[3])}\n{match[4]}", text)


# Modules, and what they define.


@cache
def modules(package: str) -> dict[str, Path]:
    """Return the modules of a package by their dotted names, the package itself included."""
    top = PACKAGES[package]
    found = {}
    for path in sorted(top.rglob("*.py")):
        parts = path.relative_to(top).with_suffix("").parts
        found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


@cache
def source_of(module: str) -> ast.Module:
    """Return the syntax tree of a module."""
    path = modules(module.partition(".")[0])[module]
    return ast.parse(path.read_text(encoding="utf-8"))


def definition_of(module: str, name: str) -> Definition:
    """Return what a name of a module means, followed through imports to where it is defined.

    Raises:
        LookupError: The module has no such name.
    """
    for node in ast.walk(source_of(module)):
        if isinstance(node, ast.ImportFrom) and any(a.name == name for a in node.names):
            origin = node.module or ""
            known = modules(module.partition(".")[0])
            if f"{origin}.{name}" in known:
                return source_of(f"{origin}.{name}")
            if origin in known:
                return definition_of(origin, name)
    return member_of(source_of(module), name)


def member_of(owner: Definition, name: str) -> Definition:
    """Return what a module or class defines.

    Raises:
        LookupError: It does not.
    """
    for node in getattr(owner, "body", ()):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
        names = {getattr(t, "id", None) or getattr(t, "name", None) for t in targets}
        if name in names and isinstance(node, Definition):
            return node
    raise LookupError(f"{getattr(owner, 'name', 'the module')} has no {name}")


def exported(package: str) -> list[str]:
    """Return the names in a module's __all__."""
    names = definition_of(package, "__all__")
    assert isinstance(names, ast.Assign)
    return sorted(ast.literal_eval(names.value), key=lambda name: (name.startswith("_"), name))


# The tree.


def tree(package: str) -> str:
    """Draw the modules of a package, each with the first line of its docstring, rooms first."""
    known = modules(package)
    rooms = {name for name, path in known.items() if path.stem == "__init__"}
    rows = [(f"{package}/", package)]
    inside = [name for name in known if name.rpartition(".")[0] in rooms - {package}]
    for name in sorted({*known} - {package}, key=lambda n: (n not in rooms | {*inside}, n)):
        depth = name.count(".")
        last = name.rpartition(".")[2]
        rows.append((f"{'  ' * depth}{last}{'/' if name in rooms else '.py'}", name))
    width = max(len(label) for label, _ in rows)
    lines = [f"{label:<{width}}  {_first_line(source_of(name))}" for label, name in rows]
    return "\n".join(["```text", *lines, "```"])


def _first_line(module: ast.Module) -> str:
    text = (ast.get_docstring(module) or "").partition("\n")[0]
    return re.split(r"(?<=[a-z)`])[.] |[.]$", text)[0]


# The commands.


def commands(program: str) -> str:
    """Describe the commands of a program and their options."""
    if program == "spladelet":
        return _subcommands(import_module("spladelet.cli.main")._parser())
    cli = import_module("spladelet_export.cli")
    others = (parser() for parser, _ in cli._OTHERS.values())
    return "\n\n".join(_command(parser) for parser in (cli._parser(), *others))


def _subcommands(parser: argparse.ArgumentParser) -> str:
    (group,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    found: dict[str, argparse.ArgumentParser] = group.choices
    entries = {name: _entries(command) for name, command in found.items()}
    every = [e for e in entries["index"] if all(e in others for others in entries.values())]
    with_model = [others for others in entries.values() if _names_model(others)]
    model = [e for e in with_model[0] if all(e in o for o in with_model) and e not in every]
    parts = [
        "Options of every command:\n\n" + "\n".join(every),
        "Options of every command that has a model, as those marked below do:\n\n"
        + "\n".join(model),
    ]
    for name, command in found.items():
        with_its = _names_model(entries[name])
        mark = " (has a model)" if with_its else ""
        parts.append(_command(command, every + model * with_its, mark))
    return "\n\n".join(parts)


def _names_model(entries: Iterable[str]) -> bool:
    return any(entry.startswith("- `--model ") for entry in entries)


def _command(
    parser: argparse.ArgumentParser, elsewhere: Collection[str] = (), mark: str = ""
) -> str:
    own = [entry for entry in _entries(parser) if entry not in elsewhere]
    lines = [f"## {parser.prog}", "", f"{parser.description}{mark}", "", _usage(parser)]
    return "\n".join([*lines, *(["", *own] if own else [])])


def _actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.help is not argparse.SUPPRESS]


def _usage(parser: argparse.ArgumentParser) -> str:
    words = [parser.prog]
    for action in _actions(parser):
        name = _value_name(action)
        if not action.option_strings:
            forms = {"*": f"[{name} …]", "+": f"{name} …", "?": f"[{name}]"}
            words.append(forms.get(str(action.nargs), name))
        elif action.required:
            words.append(f"{action.option_strings[0]} {name}")
    return f"    {' '.join(words)} [OPTION …]"


def _entries(parser: argparse.ArgumentParser) -> list[str]:
    return [_entry(action) for action in _actions(parser) if action.dest != "help"]


def _entry(action: argparse.Action) -> str:
    called = ", ".join(action.option_strings) or _value_name(action)
    if action.option_strings and action.nargs != 0:
        called += f" {_value_name(action)}"
    if action.choices is not None:
        called = called.replace(_value_name(action), "|".join(map(str, action.choices)))
    text = (action.help or "") % {**vars(action), "prog": ""} if action.help else ""
    return f"- `{called}`" + (f": {text}" if text else "")


def _value_name(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return action.dest.upper()


# The public names.


def api(package: str) -> str:
    """Describe the public names of a package."""
    top = package.partition(".")[0]
    assert package in modules(top)
    names = exported(package)
    links = [f"[{name}](#{anchor})" for name, anchor in zip(names, anchors(names), strict=True)]
    described = [_name(name, definition_of(package, name)) for name in names]
    return "\n\n".join([" · ".join(links), *described])


def anchors(headings: Iterable[str]) -> list[str]:
    """Return what links to headings of one page say, as GitHub has it: equal ones are counted."""
    seen: Counter[str] = Counter()
    found = []
    for heading in headings:
        plain = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(f"{plain}-{seen[plain]}" if seen[plain] else plain)
        seen[plain] += 1
    return found


def _name(name: str, node: Definition) -> str:
    if isinstance(node, ast.Module):
        return f"### {name}\n\n```text\n{_raw(node)}\n```"
    if isinstance(node, Function):
        return f"### {name}\n\n{_function(node, name)}"
    if isinstance(node, ast.ClassDef):
        return "\n\n".join([f"### {name}", *_class(node)])
    if isinstance(node.value, ast.Dict):
        keys = ", ".join(_unparse(key) for key in node.value.keys if key)
        return f"### {name}\n\nA mapping, by {keys}."
    return f"### {name}\n\n```text\n{name} = {_unparse(node.value) if node.value else ''}\n```"


def _class(node: ast.ClassDef) -> Iterator[str]:
    raw = _raw(node)
    if "\nArgs:" in raw:
        init = member_of(node, "__init__")
        assert isinstance(init, Function)
        yield _code(_signature(f"class {node.name}", _parameters(init.args), None))
    elif any(ast.unparse(decorator).startswith("dataclass") for decorator in node.decorator_list):
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
        shown = [_unparse(n) for n in fields if not ast.unparse(n.target).startswith("_")]
        yield _code(_signature(f"class {node.name}", [_plain_field(f) for f in shown], None))
    yield _markdown(raw)
    methods = [n for n in node.body if isinstance(n, Function) and n.name[0] != "_"]
    if properties := [_property(n) for n in methods if _is_property(n)]:
        yield "Properties:\n\n" + "\n".join(properties)
    for method in methods:
        if not _is_property(method):
            yield f"#### {node.name}.{method.name}"
            yield _function(method, f"{node.name}.{method.name}")


def _is_property(node: Function) -> bool:
    return any(ast.unparse(decorator) in ("property", "lazy") for decorator in node.decorator_list)


def _property(node: Function) -> str:
    text = " ".join(_raw(node).partition("\n\nRaises:")[0].split())
    return f"- `{node.name}: {_annotation(node.returns)}`: {text}"


def _plain_field(text: str) -> str:
    text = re.sub(r" = field\(.*?default_factory=(\w+).*\)$", r" = \1()", text)
    return re.sub(r" = field\(.*\)$", "", text)


def _function(node: Function, name: str) -> str:
    shown = _signature(name, _parameters(node.args), _annotation(node.returns))
    return f"{_code(shown)}\n\n{_markdown(_raw(node))}"


def _annotation(node: ast.expr | None) -> str:
    return "None" if node is None else _unparse(node).strip('"')


def _unparse(node: ast.AST) -> str:
    return re.sub(r"'([^'\"\\]*)'", r'"\1"', ast.unparse(node))


def _parameters(args: ast.arguments) -> list[str]:
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + list(args.defaults)
    found = [_parameter(*pair) for pair in zip(plain, defaults, strict=True)]
    if args.vararg:
        found.append(f"*{_parameter(args.vararg, None)}")
    elif args.kwonlyargs:
        found.append("*")
    found += [_parameter(*pair) for pair in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return [text for text in found if text not in ("self", "cls")]


def _parameter(arg: ast.arg, default: ast.expr | None) -> str:
    kind = f": {_annotation(arg.annotation)}" if arg.annotation else ""
    return f"{arg.arg}{kind}" + (f" = {_unparse(default)}" if default else "")


def _signature(name: str, parameters: list[str], returns: str | None) -> str:
    end = "" if returns is None else f" -> {returns}"
    line = f"{name}({', '.join(parameters)}){end}"
    if len(line) <= _WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {parameter}," for parameter in parameters), f"){end}"])


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _raw(node: Definition) -> str:
    assert isinstance(node, ast.Module | ast.ClassDef | Function)
    return cleandoc(ast.get_docstring(node) or "")


def _markdown(docstring: str) -> str:
    """Turn Google's sections into lists, and examples into code."""
    shown, section = [], ""
    for line in docstring.splitlines():
        if re.fullmatch(r"[A-Z][a-z]+:", line):
            section = line
            shown += [line, ""]
        elif section and not line.startswith(" "):
            section = "" if line else section
            shown.append(line)
        elif section in _LISTS and (item := re.fullmatch(r"    (\*{0,2}[\w.]+): (.*)", line)):
            shown.append(f"- `{item[1]}`: {item[2]}")
        elif section:
            shown.append(line[4:] if section not in _LISTS else f"  {line.strip()}")
        else:
            shown.append(line)
    text = "\n".join(line.rstrip() for line in shown)
    return re.sub(r"((?:^(?:>>>|\.\.\.).*\n?)+)", r"```python\n\1\n```\n", text, flags=re.MULTILINE)


MAKERS: dict[str, Callable[[str], str]] = {"api": api, "commands": commands, "tree": tree}


if __name__ == "__main__":
    main()
