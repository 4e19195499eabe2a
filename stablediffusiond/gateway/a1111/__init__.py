"""The API of AUTOMATIC1111's web UI (``/sdapi/v1``), for clients that speak it already.

What its requests mean is settled where requests are read (``messages/a1111.py``); here are its paths and its answers.
"""
