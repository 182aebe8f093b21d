"""The operator's door: REST, WebSocket, OpenAPI and the dashboard, in a process of their own.

It talks to Redis or Valkey only, never to the tick process: a slow client, a flood of requests or a crash here
cannot delay a sample. Everything it shows was written by another process; it adds the age of what it shows.
"""
