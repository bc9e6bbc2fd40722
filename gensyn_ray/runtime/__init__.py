"""The HTTP kit of the daemons: the ledger's service, the presigner and the operator's agent.

address         unix:PATH, http://HOST:PORT, https://HOST:PORT
listening       bind an address; mode, group and removal of socket files
http_server     limits of a connection; ends in order on SIGTERM and SIGINT
http_body       bounded bodies
http_answers    JSON answers; reasons and statuses of refusals
blocking_calls  a bounded number of blocking calls beside the event loop
http_client     httpx clients for the same addresses
wall_clock      the time of real processes
"""
