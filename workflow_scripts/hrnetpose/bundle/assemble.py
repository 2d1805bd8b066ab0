"""One file out of this library's modules: what a program uses of them, and no more.

From a root module, which is taken whole, its names are followed into the modules that define them.
Definitions are copied as they are written, comments included.  What changes:

- imports of the library are left out, and `module.name` becomes `module_name`, of the same length;
- methods that nothing mentions are left out;
- of pydantic models constants, properties and methods are left, over `SimpleNamespace`: JSON is
  read without being checked.
"""

import ast
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

LIBRARY = Path(__file__).parents[1]
PACKAGE = LIBRARY.name
_DATA = "pydantic"
_DATA_DOC = '"""What JSON files hold, their keys as attributes."""'
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True, order=True)
class Name:
    """Where a definition is, for example in `hrnetpose.pose.dark`, and what it is called."""

    module: str
    name: str


@dataclass(frozen=True)
class Reference:
    """A mention of a definition: where it is, in lines from 1 and bytes from 0."""

    target: Name
    line: int
    start: int
    end: int
    qualified: bool
    is_type: bool


@dataclass
class Use:
    """What a piece of code mentions.

    Attributes:
        references: definitions of the library.
        attributes: names of attributes, which may be methods.
        outside: names that come from other packages.
    """

    references: list[Reference] = field(default_factory=list)
    attributes: set[str] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)


class Module:
    """The source of a module, by definitions."""

    def __init__(self, name: str) -> None:
        self.name = name
        path = LIBRARY.parent.joinpath(*name.split("."))
        file = (
            path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        )
        self.text = file.read_text(encoding="utf-8")
        self.lines = self.text.splitlines()
        self.tree = ast.parse(self.text)

    @property
    def short(self) -> str:
        """The last part of its name."""
        return self.name.rpartition(".")[2]

    @cached_property
    def definitions(self) -> dict[str, ast.stmt]:
        """Functions, classes and constants at the top."""
        found: dict[str, ast.stmt] = {}
        for node in self.tree.body:
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    found[name] = node
                case ast.Assign(targets=[ast.Name() | ast.Tuple(), *_] as targets):
                    names = (part for target in targets for part in ast.walk(target))
                    found |= {part.id: node for part in names if isinstance(part, ast.Name)}
                case ast.AnnAssign(target=ast.Name(id=name)):
                    found[name] = node
        return found

    @cached_property
    def imports(self) -> dict[str, Name | ast.Import | ast.ImportFrom]:
        """What a name that is imported means: of this library, wherever; of others, at the top."""
        found: dict[str, Name | ast.Import | ast.ImportFrom] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and is_own(node):
                for alias in node.names:
                    found[alias.asname or alias.name] = Name(node.module or "", alias.name)
        for node in self.tree.body:
            if isinstance(node, ast.Import) or (
                isinstance(node, ast.ImportFrom) and not is_own(node)
            ):
                found |= {
                    (alias.asname or alias.name).partition(".")[0]: node for alias in node.names
                }
        return found

    def span(self, node: ast.stmt) -> tuple[int, int]:
        """Return the first and the last line of a statement, its comments included."""
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        while first > 1 and re.match(r"\s*#", self.lines[first - 2]):
            first -= 1
        last = node.end_lineno or node.lineno
        body = self._siblings(node)
        after = body[body.index(node) + 1 :][:1]
        if isinstance(node, ast.Assign | ast.AnnAssign) and after and is_text(after[0]):
            last = after[0].end_lineno or last
        return first, last

    def _siblings(self, node: ast.stmt) -> list[ast.stmt]:
        bodies = [self.tree.body, *(n.body for n in self.tree.body if isinstance(n, ast.ClassDef))]
        return next(body for body in bodies if node in body)


def is_own(node: ast.ImportFrom) -> bool:
    """Return True for an import of this library."""
    return (node.module or "").partition(".")[0] == PACKAGE


def is_text(node: ast.stmt) -> bool:
    """Return True for a string that documents what stands before it."""
    return isinstance(node, ast.Expr) and isinstance(getattr(node.value, "value", None), str)


class Assembler:
    """Follows names from roots.

    Args:
        root: the module that is taken whole, and whose docstring the file has.
        added: modules that are taken whole, too, before the end of the root.
    """

    def __init__(self, root: str, added: Sequence[str] = ()) -> None:
        self.root, self.whole = root, (root, *added)
        self._modules: dict[str, Module | None] = {}
        self._order: list[str] = []
        self._live: set[Name] = set()
        self._attributes: set[str] = set()
        self._qualified: set[Name] = set()
        self._made: set[Name] = set()
        self._methods: set[tuple[Name, str]] = set()

    def assemble(self) -> str:
        """Return the file.

        Raises:
            ValueError: two definitions would have one name.
        """
        self._follow()
        parts: dict[str, list[str]] = {}
        outside: list[tuple[ast.Import | ast.ImportFrom, str]] = []
        for name in self._order:
            module = self._module(name)
            assert module
            for node in self._taken(module):
                if self._is_repeated(module, node):
                    continue
                use = self._use(module, node)
                outside += [(module.imports[n], n) for n in sorted(use.outside)]  # type: ignore[misc]
                parts.setdefault(name, []).append(self._copy(module, node))
        self._check_names()
        data = sorted({target.name for target in self._live if self._is_alias(target)})
        root = self._module(self.root)
        assert root
        head = [
            f'"""{ast.get_docstring(root.tree, clean=False)}"""',
            "",
            *_import_lines(outside),
        ]
        text = "\n".join(head)
        if data:
            text += (
                "\n" + "\n".join(f"{name} = SimpleNamespace" for name in data) + f"\n{_DATA_DOC}"
            )
        for name, copied in parts.items():
            module = self._module(name)
            assert module
            about = (ast.get_docstring(module.tree) or "").split("\n\n")[0].replace("\n", " ")
            if name != self.root:
                place = name.removeprefix(f"{PACKAGE}.").replace(".", "/")
                text += f"\n\n\n{_comment(f'{place}.py: {about}')}"
            text += "\n" + "\n".join(["", *copied])
        text += "".join(
            f"\n\n\n{ast.get_source_segment(root.text, node)}"
            for node in root.tree.body
            if isinstance(node, ast.If)
        )
        return _tidy(text) + "\n"

    # Following names

    def _module(self, name: str) -> Module | None:
        """Return a module of the library; None if there is none of that name."""
        if name not in self._modules:
            path = LIBRARY.parent.joinpath(*name.split("."))
            there = path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
            self._modules[name] = Module(name) if there else None
        return self._modules[name]

    def _follow(self) -> None:
        """Find all that the root reaches; more methods may be mentioned by what is found."""
        for name in self.whole:
            self._visit_modules(name)
        before = -1
        while before != (now := len(self._live) + len(self._attributes) + len(self._made)):
            before = now
            for name in self._order:
                module = self._module(name)
                assert module
                for node in self._taken(module):
                    use = self._use(module, node)
                    self._attributes |= use.attributes
                    for reference in use.references:
                        self._live.add(reference.target)
                        if reference.qualified:
                            self._qualified.add(reference.target)
                        if not reference.is_type:
                            self._made.add(reference.target)

    def _visit_modules(self, name: str) -> None:
        """List modules, each after those that it imports at the top."""
        module = self._module(name)
        if module is None or name in self._order:
            return
        self._order.append(name)
        for target in module.imports.values():
            if isinstance(target, Name):
                self._visit_modules(target.module)
                self._visit_modules(f"{target.module}.{target.name}")
        self._order.remove(name)
        self._order.append(name)

    def _taken(self, module: Module) -> Iterator[ast.stmt]:
        """Yield the statements of a module that are copied: all of the root's but its imports."""
        seen: set[int] = set()
        for name, node in module.definitions.items():
            target = Name(module.name, name)
            wanted = module.name in self.whole or target in self._live
            if wanted and id(node) not in seen and not self._is_alias(target):
                seen.add(id(node))
                yield node
        if module.name in self.whole:
            yield from (
                node
                for node in module.tree.body
                if id(node) not in seen
                and not isinstance(node, ast.Import | ast.ImportFrom | ast.If)
                and not is_text(node)
            )

    def _is_data(self, target: Name) -> bool:
        """Return True for a pydantic model, and for a type that is made of some."""
        module = self._module(target.module)
        node = module.definitions.get(target.name) if module else None
        match node:
            case ast.ClassDef(bases=bases):
                sources: Iterable[ast.expr] = bases
            case ast.Assign(value=ast.Subscript(value=ast.Name(id="Annotated")) as value):
                sources = ast.walk(value)  # type: ignore[assignment]
            case _:
                return False
        for base in sources:
            if isinstance(base, ast.Name) and module:
                found = module.imports.get(base.id, Name(module.name, base.id))
                if isinstance(found, ast.ImportFrom) and found.module == _DATA:
                    return True
                if isinstance(found, Name) and found != target and self._is_data(found):
                    return True
        return False

    def _use(self, module: Module, node: ast.stmt) -> Use:
        """Return what a statement mentions, of a class without the methods that are left out."""
        use = Use()
        if isinstance(node, ast.ClassDef) and self._is_data(Name(module.name, node.name)):
            for part in self._behaviour(module, node):
                self._walk(module, part, frozenset(), use, set())
            return use
        dropped = set(map(id, self._dropped(module, node)))
        self._walk(module, node, frozenset(), use, dropped)
        return use

    def _behaviour(self, module: Module, node: ast.ClassDef) -> list[ast.stmt]:
        """Return the constants, properties and methods of a pydantic model that are mentioned.

        There are none of one that is only the type of something.
        """
        if Name(module.name, node.name) not in self._made:
            return []
        return [
            part
            for part in node.body
            if (isinstance(part, ast.FunctionDef) and part.name in self._attributes)
            or (
                isinstance(part, ast.AnnAssign)
                and isinstance(part.target, ast.Name)
                and part.target.id in self._attributes
                and "ClassVar" in ast.unparse(part.annotation)
            )
        ]

    def _is_alias(self, target: Name) -> bool:
        """Return True for data of which nothing is left but fields."""
        if not self._is_data(target):
            return False
        module = self._module(target.module)
        assert module
        node = module.definitions[target.name]
        return not isinstance(node, ast.ClassDef) or not self._behaviour(module, node)

    def _dropped(self, module: Module, node: ast.stmt) -> list[ast.stmt]:
        """Return the methods of a class that nothing mentions, and the fields of data."""
        if not isinstance(node, ast.ClassDef):
            return []
        if self._is_data(Name(module.name, node.name)):
            kept = self._behaviour(module, node)
            return [part for part in node.body[1:] if part not in kept]
        return [
            part
            for part in node.body
            if isinstance(part, ast.FunctionDef)
            and not part.name.startswith("__")
            and part.name not in self._attributes
        ]

    def _walk(
        self,
        module: Module,
        node: ast.AST,
        local: frozenset[str],
        use: Use,
        dropped: set[int],
        is_type: bool = False,
    ) -> None:
        if id(node) in dropped or (isinstance(node, ast.ImportFrom) and is_own(node)):
            return
        if isinstance(node, _Function):
            local |= _bound(node)
        if isinstance(node, ast.Attribute):
            use.attributes.add(node.attr)
            if isinstance(node.value, ast.Name) and node.value.id not in local:
                place = self._imported_module(module, node.value.id)
                if place and (target := self._find(Name(place, node.attr))):
                    end = node.end_col_offset or 0
                    use.references.append(
                        Reference(target, node.lineno, node.col_offset, end, True, is_type)
                    )
                    return
        if isinstance(node, ast.Name) and node.id not in local:
            known = module.imports.get(node.id)
            if node.id in module.definitions or isinstance(known, Name):
                own = Name(module.name, node.id)
                if target := self._find(known if isinstance(known, Name) else own):
                    end = node.end_col_offset or 0
                    use.references.append(
                        Reference(target, node.lineno, node.col_offset, end, False, is_type)
                    )
            elif known is not None:
                use.outside.add(node.id)
        types = set(map(id, _types_of(node)))
        for child in ast.iter_child_nodes(node):
            self._walk(module, child, local, use, dropped, is_type or id(child) in types)

    def _imported_module(self, module: Module, name: str) -> str | None:
        target = module.imports.get(name)
        if isinstance(target, Name):
            place = f"{target.module}.{target.name}"
            return place if self._module(place) else None
        return None

    def _find(self, target: Name) -> Name | None:
        """Return where a name is defined, through modules that only pass it on."""
        module = self._module(target.module)
        if module is None or target.name in module.definitions:
            return target if module else None
        passed_on = module.imports.get(target.name)
        return self._find(passed_on) if isinstance(passed_on, Name) else None

    # Copying

    def _name(self, target: Name) -> str:
        """Return what a definition is called in the file."""
        if target in self._qualified and not self._is_data(target):
            prefix = target.module.rpartition(".")[2]
            return f"{prefix.upper() if target.name.isupper() else prefix}_{target.name}"
        return target.name

    def _copy(self, module: Module, node: ast.stmt) -> str:
        """Return the source of a statement, with its names in the file, after two blank lines."""
        first, last = module.span(node)
        lines = [line.encode() for line in module.lines]
        for reference in sorted(
            self._use(module, node).references, key=lambda r: (r.line, r.start), reverse=True
        ):
            line = lines[reference.line - 1]
            new = self._name(reference.target).encode()
            lines[reference.line - 1] = line[: reference.start] + new + line[reference.end :]
        self._rename_definition(module, node, lines)
        gone: set[int] = set()
        for method in self._dropped(module, node):
            start, end = module.span(method)
            while not module.lines[start - 2].strip():
                start -= 1
            gone |= set(range(start, end + 1))
        for part in ast.walk(node):
            if isinstance(part, ast.ImportFrom) and is_own(part):
                end = part.end_lineno or part.lineno
                gone |= set(range(part.lineno, end + 1))
                if not module.lines[end].strip():
                    gone.add(end + 1)
        kept = [lines[n - 1].decode() for n in range(first, last + 1) if n not in gone]
        spaced = isinstance(node, ast.FunctionDef | ast.ClassDef | ast.For)
        return "\n".join([*(["", ""] if spaced else []), *kept, *(["", ""] if spaced else [])])

    def _rename_definition(self, module: Module, node: ast.stmt, lines: list[bytes]) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            new = self._name(Name(module.name, node.name))
            line = lines[node.lineno - 1].decode()
            pattern = rf"(?<=\b(?:def) ){node.name}\b|(?<=class ){node.name}\b"
            line = re.sub(pattern, new, line, count=1)
            if self._is_data(Name(module.name, node.name)):
                line = f"class {node.name}(SimpleNamespace):"
            lines[node.lineno - 1] = line.encode()

    def _check_names(self) -> None:
        found: dict[str, Name] = {}
        root = self._module(self.root)
        assert root
        for target in sorted(self._live | {Name(self.root, name) for name in root.definitions}):
            name = self._name(target)
            other = found.setdefault(name, target)
            if other != target and not self._is_same(other, target):
                raise ValueError(f"{other.module} and {target.module} both define {name}")

    def _is_repeated(self, module: Module, node: ast.stmt) -> bool:
        """Return True for a constant that a module before this one has, too."""
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            return False
        own = Name(module.name, node.targets[0].id)
        for name in self._order[: self._order.index(module.name)]:
            before = self._module(name)
            other = Name(name, own.name)
            is_there = before and own.name in before.definitions
            is_taken = is_there and (other in self._live or name in self.whole)
            if is_taken and self._name(other) == self._name(own) and self._is_same(other, own):
                return True
        return False

    def _is_same(self, one: Name, other: Name) -> bool:
        """Return True if two definitions are written alike, such as the type of an array."""
        if self._is_data(one) and self._is_data(other):
            return True
        texts = []
        for target in (one, other):
            module = self._module(target.module)
            assert module
            texts.append(ast.unparse(module.definitions[target.name]))
        return texts[0] == texts[1]


def _types_of(node: ast.AST) -> list[ast.AST | None]:
    """Return the parts of a node that are types."""
    match node:
        case ast.arg(annotation=annotation) | ast.AnnAssign(annotation=annotation):
            return [annotation]
        case ast.FunctionDef(returns=returns):
            return [returns]
        case ast.ClassDef(bases=bases):
            return [*bases]
        case ast.Call(func=ast.Name(id="TypeVar"), keywords=keywords):
            return [*keywords]
    return []


def _bound(node: _Function) -> frozenset[str]:
    """Return the names that a function binds, those of functions inside it included."""
    found = set()
    for part in ast.walk(node):
        match part:
            case ast.arg(arg=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) if part is not node:
                found.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                found.add(name)
            case ast.Import(names=names):
                found |= {(alias.asname or alias.name).partition(".")[0] for alias in names}
            case ast.ImportFrom(names=names) if not is_own(part):
                found |= {alias.asname or alias.name for alias in names}
    return frozenset(found)


def _import_lines(used: Iterable[tuple[ast.Import | ast.ImportFrom, str]]) -> Iterator[str]:
    """Yield sorted imports: the standard library's, then others."""
    plain: set[str] = set()
    members: dict[str, set[str]] = {}
    for node, name in used:
        for alias in node.names:
            text = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
            if (alias.asname or alias.name).partition(".")[0] != name:
                continue
            if isinstance(node, ast.Import):
                plain.add(text)
            else:
                members.setdefault(node.module or "", set()).add(text)
    for standard in (True, False):

        def is_here(module: str, standard: bool = standard) -> bool:
            return (module.partition(".")[0].split()[0] in sys.stdlib_module_names) is standard

        lines = [f"import {name}" for name in sorted(plain) if is_here(name)]
        lines += [
            f"from {module} import {', '.join(sorted(names, key=_import_order))}"
            for module, names in sorted(members.items())
            if is_here(module)
        ]
        if lines:
            yield from lines
            yield ""


def _import_order(name: str) -> tuple[int, str]:
    """Sort as isort does: constants, classes, the rest."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def _comment(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 98, initial_indent="# ", subsequent_indent="# "))


def _tidy(text: str) -> str:
    """Leave at most two blank lines, and at least one between statements of different kinds."""
    return re.sub(r"\n{4,}", "\n\n\n", text).rstrip("\n")


def assemble(root: str, *added: str) -> str:
    """Return the one file of a module and all that it uses of this library.

    Args:
        root: the module's name.
        added: modules that add to it.
    """
    return Assembler(root, added).assemble()
