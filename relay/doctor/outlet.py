"""Where mail of a domain leaves: everything that the checks of the domain's DNS depend on."""

import ipaddress
from dataclasses import dataclass

from relay.doctor.providers import MailProvider, provider_of
from relay.mail.address import Address, AddressError


@dataclass(frozen=True, slots=True)
class Outlet:
    """A domain (A-labels, lower case) and the server that its mail leaves through.

    `account_domain` is that of the account that logs in, or "" where its name has none. `selectors` are DKIM selectors
    that somebody knows beside those of the provider.
    """

    domain: str
    host: str
    account_domain: str = ""
    selectors: tuple[str, ...] = ()

    @classmethod
    def of(cls, identity: Address, host: str, username: str, selectors: tuple[str, ...] = ()) -> "Outlet":
        """Return the outlet of an identity that leaves through a server with an account."""
        try:
            account_domain = Address.parse(username).domain_key
        except AddressError:
            account_domain = ""
        return cls(identity.domain_key, host, account_domain, selectors)

    @property
    def provider(self) -> MailProvider | None:
        """The provider whose server it is, where we know it."""
        return provider_of(self.host)

    @property
    def who(self) -> str:
        """How sentences call the sender: the provider's name, or the server's."""
        return self.provider.name if self.provider else self.host

    @property
    def is_own_server(self) -> bool:
        """Whether the server is of whoever owns the domain or the account, so that mail leaves from its own address.

        Somebody else's server may hand over to others, which send. A bare name or an address is on our own network.
        """
        if "." not in self.host.rstrip(".") or _is_address(self.host):
            return True
        own = [domain for domain in (self.domain, self.account_domain) if domain]
        return any(f".{self.host.lower().rstrip('.')}".endswith(f".{domain}") for domain in own)

    @property
    def is_provider_own(self) -> bool:
        """Whether the domain is the provider's own, which then publishes everything itself."""
        return self.provider is not None and self.domain in self.provider.own_domains


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
