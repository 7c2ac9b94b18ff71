"""What somebody wrote on the command line, and what they left to the defaults."""

import click


def given() -> set[str]:
    """The names of the parameters that the command that runs was given."""
    context = click.get_current_context()
    source = click.core.ParameterSource.COMMANDLINE
    return {name for name in context.params if context.get_parameter_source(name) is source}


def flag_of(name: str) -> str:
    """The option that sets a parameter of the command that runs."""
    command = click.get_current_context().command
    return next(p for p in command.params if p.name == name).opts[0]
