"""Serves streams of requests by replicas of a plan, event by event: pure, seeded, quick enough for days of traffic."""
