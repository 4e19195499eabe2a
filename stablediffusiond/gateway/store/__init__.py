"""What has to outlive the gateway: ``records.py`` says what is kept of a job, ``folder.py`` has it on a disk."""
