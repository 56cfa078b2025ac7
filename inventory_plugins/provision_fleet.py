"""Ansible's way to a fleet file: the same hosts, groups and variables that `provision` gives its own playbooks."""

from __future__ import annotations

from pathlib import Path

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.template import trust_as_template

DOCUMENTATION = r"""
name: provision_fleet
short_description: Hosts of a fleet file of provision
description:
  - Reads a fleet file as C(provision) does, with groups, overrides and the inventories that it names.
  - Hosts get their connection variables. What roles need depends on what is on a host; it comes from recorded facts.
  - Facts are looked for in C(NAME.facts.json) beside C(NAME.yaml), written by C(provision probe NAME.yaml --json).
options:
  plugin:
    description: Token that makes a file a configuration of this plugin. A fleet file itself needs none.
    choices: [provision_fleet]
  fleet:
    description: The fleet file, relative to the configuration; only where the source is not a fleet file itself.
    type: path
  facts:
    description: Recorded facts; default is the file beside the fleet file.
    type: path
    env:
      - name: PROVISION_FACTS
requirements:
  - the Python package provision, for the Python that runs Ansible
"""

EXAMPLES = r"""
# ansible.cfg, to use fleet files as they are:
#   [defaults]
#   inventory_plugins = inventory_plugins
#   [inventory]
#   enable_plugins = provision_fleet, host_list, script, auto, yaml, ini, toml
# ansible-inventory -i fleet.yaml --list

# Or a file of its own, which needs no enabling:
plugin: provision_fleet
fleet: fleet.yaml
facts: fleet.facts.json
"""


class InventoryModule(BaseInventoryPlugin):
    """A fleet file as an inventory."""

    NAME = "provision_fleet"

    def verify_file(self, path):
        """Whether the source is a fleet file, or a configuration of this plugin. Other YAML is left to others."""
        if not super().verify_file(path) or Path(path).suffix not in (".yaml", ".yml"):
            return False
        data = self._data(path)
        if not isinstance(data, dict):
            return False
        if "plugin" in data:
            return data["plugin"] == self.NAME
        return "servers" in data and bool({"hosts", "inventory"} & data.keys())

    def parse(self, inventory, loader, path, cache=True):
        """Fills Ansible's inventory."""
        super().parse(inventory, loader, path, cache)
        from provisioner.errors import ProvisionError
        from provisioner.rollout.listing import listing

        data = self._data(path)
        if "plugin" in data:
            self._read_config_data(path)
            if not self.get_option("fleet"):
                raise AnsibleParserError(f"{path}: `fleet` is missing: the path of the fleet file")
            fleet = Path(path).parent / self.get_option("fleet")
        else:
            self.set_options()
            fleet = Path(path)
        facts = self.get_option("facts")
        try:
            found = listing(fleet, Path(path).parent / facts if facts else None)
        except ProvisionError as error:
            # Said here too: Ansible tries other plugins next, and where one of them takes the file, keeps quiet of us.
            self.display.error(str(error), wrap_text=False)
            raise AnsibleParserError(str(error)) from error
        for name, members in found.groups.items():
            inventory.add_group(name)
            for host in members:
                inventory.add_host(host, group=name)
        for host, variables in found.hosts.items():
            inventory.add_host(host)
            for key, value in variables.items():
                inventory.set_variable(host, key, _tagged(value))
        for key, value in found.variables.items():
            inventory.set_variable("all", key, _tagged(value))
        for warning in found.warnings:
            self.display.warning(warning)

    def _data(self, path):
        from provisioner.errors import ProvisionError
        from provisioner.fleet.positions import read_document

        try:
            return read_document(Path(path)).data
        except ProvisionError:
            return None


def _tagged(value):
    """Only what the plan calls an expression is one for Ansible; a text that looks like one stays data.

    Texts without template marks are the same both ways; untrusted ones would be listed as `__ansible_unsafe`.
    """
    from provisioner.apply.inventory import has_template_marks
    from provisioner.plan.variables import Expression

    if isinstance(value, str):
        evaluated = isinstance(value, Expression) or not has_template_marks(value)
        return trust_as_template(str(value)) if evaluated else value
    if isinstance(value, dict):
        return {key: _tagged(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_tagged(entry) for entry in value]
    return value
