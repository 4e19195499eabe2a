"""What has to outlive the gateway: ``records.py`` says what is kept of a job, ``job_store.py`` which files that are.

Where the files are: in a folder (``disk.py``), or in a bucket of S3 (``bucket.py``).
"""
