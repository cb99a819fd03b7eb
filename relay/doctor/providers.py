"""What each provider does with mail that we hand over: who signs it, whose envelope it bears, what it refuses.

A provider is known by the name of its server. What stands here was read in the pages named beside it (in stored copies
of 2026; "nv": remembered, and not found in any of them). Where a thing is not known, it is left out. An outlet is a
domain and the server that its mail leaves through: all that the checks of the domain's DNS depend on.
"""

import ipaddress
from dataclasses import dataclass

from relay.mail.address import Address, AddressError

# Where the selector is not known, what mail servers are often set up with.
COMMON_SELECTORS = (
    "default",
    "mail",
    "dkim",
    "smtp",
    "relay",
    "mx",
    "key1",
    "s1",
    "s2",
    "selector1",
    "selector2",
    "k1",
)
_ANY_SERVER = (
    "let the one who runs the server allow that account to send as this address, or log in with the account of the "
    "address"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MailProvider:
    """A provider, by its servers' names or the domains that these end in ("amazonaws.com").

    `spf_include`: what a domain's SPF record must include. `selectors`: under which names its DKIM keys stand; () where
    each customer has others. `keeps_envelope`: False where it puts an envelope sender of its own, so that SPF is not
    about our domain. `checks_late`: it judges From only when a message is sent. `own_domains`: where it publishes
    everything itself. `send_as`: what to do where an account may not use an address.
    """

    name: str
    hosts: tuple[str, ...]
    send_as: str
    spf_include: str = ""
    selectors: tuple[str, ...] = ()
    keeps_envelope: bool = True
    checks_late: bool = False
    own_domains: tuple[str, ...] = ()
    dkim_setup: str = ""


PROVIDERS: tuple[MailProvider, ...] = (
    # SPF and the default selector "google": guides of mxio.io and inboxgreen.email after support.google.com/a. From is
    # rewritten to the account unless it is a verified alias: decke/smtprelay#147.
    MailProvider(
        name="Google",
        hosts=("smtp.gmail.com", "smtp-relay.gmail.com", "gmail.googleapis.com"),
        spf_include="_spf.google.com",
        selectors=("google",),
        checks_late=True,
        own_domains=("gmail.com", "googlemail.com"),
        dkim_setup="in the Google Admin console under Apps, Google Workspace, Gmail, Authenticate email",
        send_as="in the account's Gmail settings add and verify it under Accounts, Send mail as; without that Google "
        "replaces From by the account's own address",
    ),
    # selector1 and selector2, of which one is in use: learn.microsoft.com, email-authentication-dkim-configure. The
    # include: learn.microsoft.com, email-authentication-spf-configure (nv). SendAsDenied comes at the end of data:
    # gophish#2900; a shared mailbox with the delegate's login: nextcloud/mail#13667.
    MailProvider(
        name="Microsoft 365",
        hosts=("smtp.office365.com", "smtp-mail.outlook.com", "graph.microsoft.com"),
        spf_include="spf.protection.outlook.com",
        selectors=("selector1", "selector2"),
        checks_late=True,
        own_domains=("outlook.com", "hotmail.com", "live.com", "msn.com"),
        dkim_setup="in the Microsoft Defender portal under Email authentication settings, DKIM",
        send_as="in the Exchange admin center give the account that logs in the Send As permission on that mailbox "
        "(Recipients, Mailboxes, Delegation)",
    ),
    # The envelope is of amazonses.com unless a MAIL FROM domain is set; three DKIM names for each identity:
    # docs.aws.amazon.com, mail-from-set. Unverified addresses are refused at the end of data: troubleshoot-smtp.
    MailProvider(
        name="Amazon SES",
        hosts=("amazonaws.com",),
        spf_include="amazonses.com",
        keeps_envelope=False,
        checks_late=True,
        dkim_setup="in the SES console under Identities, DKIM, which names three CNAME records",
        send_as="in the SES console of the same region verify the address or its domain under Identities",
    ),
    # The envelope is of a subdomain that SendGrid keeps; two DKIM names: support.sendgrid.com, Automated Security
    # Explained; their selectors s1 and s2: lookmyip.com/email-auth.
    MailProvider(
        name="SendGrid",
        hosts=("smtp.sendgrid.net", "smtp.eu.sendgrid.net"),
        spf_include="sendgrid.net",
        selectors=("s1", "s2"),
        keeps_envelope=False,
        checks_late=True,
        dkim_setup="at SendGrid under Settings, Sender Authentication, Authenticate Your Domain",
        send_as="at SendGrid verify the address or its domain under Settings, Sender Authentication",
    ),
    # nv: the selector is shown for each domain; the envelope is of the domain that is set up at Mailgun.
    MailProvider(
        name="Mailgun",
        hosts=("smtp.mailgun.org", "smtp.eu.mailgun.org", "api.mailgun.net", "api.eu.mailgun.net"),
        spf_include="mailgun.org",
        dkim_setup="at Mailgun under Sending, Domains, DNS records",
        send_as="at Mailgun add its domain under Sending, Domains, and log in with a user of that domain",
    ),
    # The selector is made for each sender signature, the envelope is of mtasv.net unless a return path is set:
    # on.bo/esp/postmark.
    MailProvider(
        name="Postmark",
        hosts=("smtp.postmarkapp.com", "smtp-broadcasts.postmarkapp.com"),
        spf_include="spf.mtasv.net",
        keeps_envelope=False,
        dkim_setup="at Postmark under Sender Signatures, DNS Settings",
        send_as="at Postmark confirm the address or its domain under Sender Signatures",
    ),
    # The envelope is Brevo's own: suped.com, why doesn't Brevo offer full SPF alignment. Selectors: nv.
    MailProvider(
        name="Brevo",
        hosts=("smtp-relay.brevo.com", "smtp-relay.sendinblue.com"),
        spf_include="spf.brevo.com",
        selectors=("brevo1", "brevo2", "brevo", "mail"),
        keeps_envelope=False,
        dkim_setup="at Brevo under Senders, Domains",
        send_as="at Brevo add and verify the address under Senders, or its domain under Domains",
    ),
    # The envelope is of bnc3.mailjet.com, DKIM of the customer's domain: mailjet.com, DMARCbis is dead. The rest: nv.
    MailProvider(
        name="Mailjet",
        hosts=("in-v3.mailjet.com", "in.mailjet.com"),
        spf_include="spf.mailjet.com",
        selectors=("mailjet",),
        keeps_envelope=False,
        dkim_setup="at Mailjet under Account settings, Sender domains",
        send_as="at Mailjet validate the address or its domain under Account settings, Sender domains & addresses",
    ),
    # The envelope is of send.DOMAIN, the selector is "resend": sudory.com, We almost filed a bug.
    MailProvider(
        name="Resend",
        hosts=("smtp.resend.com",),
        selectors=("resend",),
        keeps_envelope=False,
        dkim_setup="at Resend under Domains",
        send_as="at Resend add and verify the domain under Domains",
    ),
    # nv: both put a return path of their own unless one is set up, and show a selector for each domain.
    MailProvider(
        name="SparkPost",
        hosts=("smtp.sparkpostmail.com", "smtp.eu.sparkpostmail.com"),
        keeps_envelope=False,
        dkim_setup="at SparkPost under Domains, Sending domains",
        send_as="at SparkPost add and verify the domain under Domains, Sending domains",
    ),
    MailProvider(
        name="SMTP2GO",
        hosts=("mail.smtp2go.com", "mail-eu.smtp2go.com"),
        keeps_envelope=False,
        dkim_setup="at SMTP2GO under Sending, Verified senders",
        send_as="at SMTP2GO add the address or its domain under Sending, Verified senders",
    ),
    # spfwise.com, Zoho Mail SPF, DKIM & DMARC Setup: the selector is the customer's choice. Other data centres have
    # other hosts. "Relaying disallowed as": providers' answers in upstream/meaning.
    MailProvider(
        name="Zoho",
        hosts=("smtp.zoho.com", "smtppro.zoho.com", "smtp.zoho.eu", "smtppro.zoho.eu", "smtp.zoho.in"),
        spf_include="zohomail.com",
        dkim_setup="in the Zoho Mail admin console under Domains, Email configuration, DKIM",
        send_as="in the Zoho Mail admin console make it an alias of that account, or add it in the account's settings "
        "under Send Mail As",
    ),
    # nv: selector and include. "not owned by authorized user": docker-postfix#67.
    MailProvider(
        name="Yandex",
        hosts=("smtp.yandex.ru", "smtp.yandex.com"),
        spf_include="_spf.yandex.net",
        selectors=("mail",),
        own_domains=("yandex.ru", "yandex.com", "ya.ru"),
        dkim_setup="in Yandex 360 under Domains, DNS records",
        send_as="in Yandex 360 make it an alias of the account that logs in, or log in with the account of that "
        "address",
    ),
    # fastmail.help/hc/en-us/articles/360060591153: fm1, fm2 and fm3. The include: nv.
    MailProvider(
        name="Fastmail",
        hosts=("smtp.fastmail.com",),
        spf_include="spf.messagingengine.com",
        selectors=("fm1", "fm2", "fm3"),
        own_domains=("fastmail.com", "fastmail.fm"),
        dkim_setup="at Fastmail under Settings, Domains",
        send_as="at Fastmail add it under Settings, My email addresses, as a sending identity of the account",
    ),
    # mxhelper.com/fr/mail-providers/icloud names the include, and says that no DKIM key is for the customer's domain;
    # chamberlain.io says that the wizard adds one. So both are looked for, and neither is promised (sig1: nv).
    MailProvider(
        name="iCloud",
        hosts=("smtp.mail.me.com",),
        spf_include="icloud.com",
        selectors=("sig1",),
        own_domains=("icloud.com", "me.com", "mac.com"),
        dkim_setup="at icloud.com under Account settings, Custom Email Domain",
        send_as="at icloud.com add it under Account settings, Custom Email Domain",
    ),
)


def provider_of(host: str) -> MailProvider | None:
    """Return the provider whose server this is, None for one that we do not know."""
    name = host.lower().rstrip(".")
    return next((each for each in PROVIDERS if any(_is_or_ends_in(name, known) for known in each.hosts)), None)


def send_as_advice(host: str) -> str:
    """Return what to do where an account may not use an address at this server."""
    provider = provider_of(host)
    return provider.send_as if provider else _ANY_SERVER


def _is_or_ends_in(name: str, known: str) -> bool:
    return name == known or (name.endswith("." + known) and known.count(".") == 1)


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
