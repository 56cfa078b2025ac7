"""Reading Ansible inventories, and being one."""
