"""A file of settings, none of which is the default."""

EVERYTHING = """
hostname = "mail.acmejets.example"
state_dir = "{folder}"
runtime_dir = "{folder}"
directory = "who.toml"
store = "sqlite:mail.db"
tls = {{ certificate = "/etc/relay/chain.pem", key = "/etc/relay/key.pem" }}
policy = {{ unknown_sender = "default", from_mismatch = "reject" }}
secrets = {{ master_key = "env:KEY" }}
web = {{ address = "127.0.0.1:80", public_url = "https://relay.acmejets.example", proxy_networks = ["10.0.0.5/32"] }}
dns = {{ servers = ["127.0.0.1:53"] }}
log = {{ format = "json", level = "debug", keep_messages = "1d" }}

[[listener]]
security = "starttls"
auth = "required"
trusted_networks = []
may_send_as = ["support"]
proxy_protocol = true
proxy_networks = ["192.0.2.0/24"]

[delivery]
mode = "queued"
patience = "1s"
retry = ["1s"]
warn_after = "1h"
give_up_after = "1d"
probe = ["1m"]
unknown = "hold"
unknown_pause = "1m"
connect_timeout = "1s"
reply_timeout = "1s"
free_space = 0

[limits]
message_size = 1000
recipients = 1
connections = 1
connections_per_client = 1
login_failures = 1
memory_per_message = 1
"""
