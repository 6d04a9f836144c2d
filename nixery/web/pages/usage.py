"""The commands that use an image, for several clients."""

from collections.abc import Sequence

import attrs
from twisted.web.template import Tag, tags

from nixery.model.text import readable
from nixery.web.pages.fragments import command, tabs


@attrs.frozen
class Usage:
    """What can be done with an image, as far as it is known.

    :param reference: host and name, with tag or digest.
    :param runs: the arguments of each way to run it: empty for its own command.
    :param sleeps: whether it has ``sleep``, so that a pod of it goes on.
    :param shell: the shell that it has; empty for none.
    :param over_http: whether the registry is asked without TLS.
    :param pinned: a reference that means this image for ever; empty for an image that is yet to be
        made, of which may be offered what nobody knows.
    """

    reference: str
    runs: Sequence[str] = ()
    sleeps: bool = False
    shell: str = ""
    over_http: bool = False
    pinned: str = ""

    def engine(self, program: str) -> list[tuple[str, str]]:
        """The commands of docker or podman, each with what it does."""
        # docker decides by its own settings, and takes plain HTTP from this machine.
        option = " --tls-verify=false" if self.over_http and program == "podman" else ""
        runs = [f"{program} run --rm -ti{option} {self.reference}{run}" for run in self.runs]
        pull = ("Pull it", f"{program} pull{option} {self.reference}")
        return [pull, *(("Run it", readable(each)) for each in runs)]

    def kubernetes(self) -> list[tuple[str, str]]:
        """A container of a pod, unless the image has nothing that goes on, and a look into another
        pod, where it has a shell."""
        lines = ["containers:", "  - name: tools", f"    image: {self.pinned or self.reference}"]
        if self.sleeps:
            lines.append("    command: [sleep, infinity]")
        may_go_on = self.sleeps or "" in self.runs or not self.pinned
        found = [("A container of a pod", "\n".join(lines))] if may_go_on else []
        if self.shell:
            debug = f"kubectl debug -ti POD --image={self.reference} -- {self.shell}"
            found.append(("Look into a pod", debug))
        return found

    def dockerfile(self) -> list[tuple[str, str]]:
        """What a Dockerfile has of it."""
        return [("Build on it", f"FROM {self.pinned or self.reference}")]


def usage_tabs(usage: Usage, name: str = "client") -> Tag:
    """The commands in tabs, one for each client.

    :param name: differs from those of other tabs of the page.
    """
    panels = {
        "docker": usage.engine("docker"),
        "podman": usage.engine("podman"),
        "Kubernetes": usage.kubernetes(),
        "Dockerfile": usage.dockerfile(),
    }
    shown = [(title, _commands(title, found)) for title, found in panels.items() if found]
    return tabs(name, "Client", shown)


def _commands(client: str, commands: Sequence[tuple[str, str]]) -> list[Tag | str]:
    shown: list[Tag | str] = []
    before = ""
    for does, text in commands:
        shown += [tags.p(does, class_="soft small")] if does != before else []
        shown.append(command(text, f"{does} ({client})"))
        before = does
    return shown
