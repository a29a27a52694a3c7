"""A configuration as an object: what gin files and parameters bound, where they bound it, and what was built by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import gin

from tfdet.config import registration, text, usage
from tfdet.config.bindings import Binding, Bindings
from tfdet.config.files import is_shipped, short_place
from tfdet.errors import UserError


class Configuration(Bindings):
    """Bindings that were read and checked; `tfdet.config.parse` makes one.

    gin keeps its bindings in variables of its module. A configuration lends it its own while it is `active`, and puts
    back what was there: several live in one process, and gin is as it was.

        configuration = config.parse(["faster_r50v1_fpn.gin"], ["Trainer.steps = 10"])
        detector = configuration.build("build_detector", num_classes=80)
        with configuration.active():
            trainer, schedule = Trainer(), Schedule()
        configuration.check_all_bindings_used()
    """

    def build(self, part: str | Callable, **arguments: Any) -> Any:
        """Calls a configurable with this configuration active.

        Args:
            part: the class or function, or its name in gin files.
            **arguments: that the program gives itself.

        Returns:
            What it returns.

        Raises:
            UserError: nothing configurable has the name, a parameter has no value, or a value does not fit.
        """
        with self.active():
            target = registration.configurable_called(part) if isinstance(part, str) else part
            try:
                return target(**arguments)
            except TypeError as error:  # gin's and Python's word for a parameter without a value
                missing = registration.explain(error)
                if missing is None:
                    raise
                raise missing from error
            except RecursionError as error:  # @Part() among the parameters of Part
                name = part if isinstance(part, str) else part.__name__
                raise UserError(f"{name}: the parts of this configuration are built through each other.") from error

    def is_bound(self, name: str) -> bool:
        """Whether a file or a parameter gives `EvalInput.data_dir`, say, a value."""
        selector, _, parameter = registration.selector_and_parameter(name)
        return parameter in self.bound.get(("", selector), {})

    def is_of_a_row(self, name: str) -> bool:
        """Whether one of tfdet's own gin files gives `EvalInput.data_dir`, say, the value that it has."""
        selector, _, parameter = registration.selector_and_parameter(name)
        return is_shipped(self.places.get(Binding("", selector, parameter), ""))

    def place(self, name: str) -> str:
        """Who gives `Trainer.steps`, say, its value: file and line, "--gin_param", a flag; "default" for nobody."""
        return short_place(self.whole_place(name) or "default")

    def whole_place(self, name: str) -> str:
        """The same with the whole path of a file, and as `Line.origin` takes it; empty for nobody."""
        scope, _, bare = name.rpartition("/")
        selector, _, parameter = registration.selector_and_parameter(bare)
        return self.places.get(Binding(scope, selector, parameter), "")

    def value(self, name: str) -> Any:
        """What a parameter has by this configuration, macros resolved: the bound value, else its default.

        Args:
            name: such as `EvalInput.short_side`.

        Raises:
            UserError: there is no such parameter, or it has neither.
        """
        selector, owner, parameter = registration.selector_and_parameter(name)
        bound = self.bound.get(("", selector), {})
        if parameter in bound:
            return self.resolve(bound[parameter])
        default = registration.parameters(selector)[parameter].default
        if default is registration.NO_DEFAULT:
            raise registration.without_value(owner, [parameter])
        return default

    def check_all_bindings_used(self, not_built: Iterable[str] = ()) -> None:
        """Refuses bindings that nothing built so far has read; see `tfdet.config.usage`."""
        usage.check_all_bindings_used(self, not_built)

    def text(self) -> str:
        """Every binding in force, as a gin file that gives the same configuration; see `tfdet.config.text`."""
        return text.config_text(self)

    def operative_text(self) -> str:
        """The parameters of what was built so far, defaults included, as a gin file."""
        with self.active():
            return gin.operative_config_str(max_line_length=110)
