"""Changing hosts: Ansible roles, run by ansible-runner. The only importer of ansible_runner."""
