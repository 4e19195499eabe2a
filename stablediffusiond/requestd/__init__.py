"""The request daemon: jobs from the broker to the engine, pictures from the engine to the broker.

``daemon`` is its life. ``request_consumer`` takes deliveries, ``in_flight`` holds those that are not acked,
``admission`` validates requests, ``job_processor`` takes each from delivery to ack. ``reply_messages`` makes the
replies, ``reply_publisher`` publishes them. ``dead_letters`` answers jobs that reached the delivery limit. ``control``
handles what is sent to all daemons, ``cancellations`` remembers what was cancelled, ``counters`` counts,
``status_report`` is the answer to ``status``, ``metrics`` what Prometheus gets.
"""
