"""What the errors of APIs mean: a table for each, in which the first row that matches counts, with its sources.

A row gives the meaning and the phase in which SMTP would have said so, and the reply that SMTP would have had: its code
and enhanced code. Its words are the provider's.

SECURITY: the texts come from the provider; every pattern here takes linear time.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from relay.directory.model import AnswerRule, Meaning
from relay.mail.reply import Reply
from relay.upstream.http.client import Answer
from relay.upstream.outcome import Failure, Phase

_CODES: Mapping[Meaning, tuple[int, str]] = MappingProxyType(
    {
        Meaning.REFUSED: (554, "5.6.0"),
        Meaning.TEMPORARY: (451, "4.3.0"),
        Meaning.THROTTLE: (450, "4.7.0"),
        Meaning.QUOTA: (452, "4.5.3"),
        Meaning.LOCK_OUT: (550, "5.7.1"),
        Meaning.LOGIN_REFUSED: (535, "5.7.8"),
        Meaning.IDENTITY_REFUSED: (550, "5.7.60"),
        Meaning.ACCOUNT_FULL: (552, "5.2.2"),
        Meaning.UNKNOWN: (451, "4.4.2"),
    }
)
_PHASES: Mapping[Meaning, Phase] = MappingProxyType(
    {Meaning.LOGIN_REFUSED: Phase.LOGIN, Meaning.REFUSED: Phase.CONTENT, Meaning.UNKNOWN: Phase.FINAL}
)


@dataclass(frozen=True, slots=True)
class ApiRow:
    """One line of a table: all that is given must match. The patterns are regular expressions.

    `status` matches the whole HTTP status, `reason` the whole name of the error, `words` is found anywhere in them.
    `reply` is what stands for it in SMTP where it is not the usual one of its meaning.
    """

    meaning: Meaning
    status: str = "..."
    reason: str = ".*"
    words: str = ""
    reply: tuple[int, str] | None = None

    def matches(self, answer: Answer) -> bool:
        """Whether this row speaks about that answer."""
        return (
            re.fullmatch(self.status, str(answer.status)) is not None
            and re.fullmatch(self.reason, answer.reason, re.IGNORECASE) is not None
            and re.search(self.words, answer.words, re.IGNORECASE) is not None
        )


# Names: learn.microsoft.com/graph/errors; those that begin with "Error" are Exchange's, as in
# learn.microsoft.com/exchange/client-developer/web-service-reference/responsecode.
GRAPH: tuple[ApiRow, ...] = (
    # The token is no good any more: it is renewed once, and then the account is held (graph/errors, 401).
    ApiRow(Meaning.LOGIN_REFUSED, status="401"),
    # The day's recipients, in the words that Exchange has for SMTP, too (smtp-submission-improvements).
    ApiRow(Meaning.QUOTA, words="SubmissionQuotaExceeded|exceeded the (?:message|recipient|sending) (?:rate )?limit"),
    # The first is how Microsoft's web client words that quota; the others are Outlook.com's, some of which offer more
    # for money (public copies of that client, and of its ResponseCodeType: "error codes to map WASCL errors").
    ApiRow(
        Meaning.QUOTA,
        reason="ErrorSubmissionQuotaExceeded|"
        "ErrorExceeded(?:Hourly)?MessageLimit(?:ShowTierUpgrade)?|ErrorExceededMaxRecipientLimit(?:ShowTierUpgrade)?",
    ),
    # Too many requests at once (4 a mailbox: graph/throttling-limits, "Outlook service limits") or in 10 minutes. The
    # header says for how long (graph/throttling).
    ApiRow(Meaning.THROTTLE, status="429"),
    # learn.microsoft.com/exchange/client-developer/exchange-web-services/ews-throttling-in-exchange has the last two.
    ApiRow(
        Meaning.THROTTLE,
        reason="ApplicationThrottled|ErrorMessageThrottled|ErrorServerBusy|ErrorExceededConnectionCount",
    ),
    # responsecode: "the mailbox quota is exceeded"; what is sent is kept in Sent Items and fills it.
    ApiRow(Meaning.ACCOUNT_FULL, reason="ErrorQuotaExceeded"),
    # responsecode: the account may not send for the address in From.
    ApiRow(Meaning.IDENTITY_REFUSED, reason="ErrorSendAsDenied"),
    # The owner is shut out as a suspected spammer, or has to prove who it is: "access to the mailbox is suspended",
    # "message submission blocked" (the same ResponseCodeType). responsecode: the account is disabled.
    ApiRow(
        Meaning.LOCK_OUT,
        reason="ErrorAccountSuspend(?:ShowTierUpgrade)?|ErrorMessageSubmissionBlocked|"
        "ErrorExceededMaxRecipientLimitBlock|ErrorAccountDisabled",
    ),
    # The same: this one message is taken for spam.
    ApiRow(Meaning.REFUSED, reason="ErrorMessageBlocked", reply=(550, "5.7.1")),
    # The app lacks Mail.Send, or its scope leaves this mailbox out (graph/auth-limit-mailbox-access): new consent is
    # in the next token, so that this is a login's matter.
    ApiRow(Meaning.LOGIN_REFUSED, status="403"),
    # There is no such user, or no mailbox of it in the cloud.
    ApiRow(
        Meaning.IDENTITY_REFUSED,
        status="404",
        reason="ErrorInvalidUser|Request_ResourceNotFound|ResourceNotFound|MailboxNotEnabledForRESTAPI|"
        "ErrorNonExistentMailbox|MailboxNotFound",
        reply=(550, "5.1.8"),
    ),
    # Over the size of one request (4 MB), or of the tenant's messages.
    ApiRow(Meaning.REFUSED, status="413", reply=(552, "5.3.4")),
    ApiRow(Meaning.REFUSED, reason="ErrorMessageSizeExceeded|RequestEntityTooLarge", reply=(552, "5.3.4")),
    # responsecode: an address that Exchange cannot write to.
    ApiRow(Meaning.REFUSED, reason="ErrorInvalidRecipients", reply=(550, "5.1.3")),
    # A gateway that gave up waiting, and "an internal error": the mail is often sent all the same
    # (learn.microsoft.com/answers/questions/2286986 and 5629476).
    ApiRow(Meaning.UNKNOWN, status="50[024]"),
    ApiRow(Meaning.TEMPORARY, status="5..|408|409|423"),
    # 400 and the rest: what this message asks for cannot be done.
    ApiRow(Meaning.REFUSED, status="4.."),
    ApiRow(Meaning.TEMPORARY),
)

# Names: developers.google.com/gmail/api/guides/handle-errors.
GMAIL: tuple[ApiRow, ...] = (
    ApiRow(Meaning.LOGIN_REFUSED, status="401"),
    # "Mail sending limits" of that page, and support.google.com/a/answer/166852: the day's messages of an account.
    ApiRow(Meaning.QUOTA, reason="dailyLimitExceeded|quotaExceeded"),
    ApiRow(Meaning.QUOTA, words=r"\(Mail sending\)|daily .{0,40}(?:limit|quota)"),
    # "concurrentLimitExceeded" is none of that page; other APIs of Google have it, with the same meaning.
    # 403 and 429 ask for a slower pace alike: per user, per project, and "Too many concurrent requests for user".
    ApiRow(Meaning.THROTTLE, reason="(?:userR|r)ateLimitExceeded|concurrentLimitExceeded|RESOURCE_EXHAUSTED"),
    ApiRow(Meaning.THROTTLE, status="429"),
    # "Delegation denied for <user>", or an account without Gmail: what the account is, not what the message says.
    ApiRow(Meaning.LOGIN_REFUSED, words="Delegation denied|Mail service not enabled"),
    # domainPolicy, insufficientPermissions, accessNotConfigured: the administrator's to change.
    ApiRow(Meaning.LOGIN_REFUSED, status="403"),
    ApiRow(Meaning.REFUSED, status="413", reply=(552, "5.3.4")),
    ApiRow(Meaning.REFUSED, status="400", words="too large", reply=(552, "5.3.4")),
    # "Invalid To header", "Recipient address required".
    ApiRow(Meaning.REFUSED, status="400", words=r"Invalid (?:To|Cc|Bcc) header|Recipient", reply=(550, "5.1.3")),
    ApiRow(Meaning.UNKNOWN, status="50[024]"),
    ApiRow(Meaning.TEMPORARY, status="5..|408|409"),
    ApiRow(Meaning.REFUSED, status="4.."),
    ApiRow(Meaning.TEMPORARY),
)

# Names: docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html and its CommonErrors.html. Words:
# docs.aws.amazon.com/ses/latest/dg: troubleshoot-error-messages and manage-sending-quotas-errors.
SES: tuple[ApiRow, ...] = (
    # The day's quota comes as the same error as the rate, with other words.
    ApiRow(Meaning.QUOTA, words="Daily (?:message|sending) quota exceeded"),
    ApiRow(Meaning.THROTTLE, status="429"),
    ApiRow(Meaning.THROTTLE, reason="Throttling(?:Exception)?|TooManyRequestsException"),
    ApiRow(Meaning.THROTTLE, words="Maximum sending rate exceeded|Rate exceeded"),
    ApiRow(Meaning.QUOTA, reason="LimitExceededException"),
    # From is verified neither as an address nor by its domain; in the sandbox the same is said of recipients.
    ApiRow(Meaning.IDENTITY_REFUSED, words="(?:address|identity|identities) (?:is|are) not verified"),
    ApiRow(Meaning.IDENTITY_REFUSED, words="identities failed the check"),
    # The MX record of the identity's MAIL FROM domain is gone.
    ApiRow(Meaning.IDENTITY_REFUSED, reason="MailFromDomainNotVerifiedException"),
    # The account is restricted for good, or its owner or Amazon paused it.
    ApiRow(Meaning.LOCK_OUT, reason="AccountSuspendedException|SendingPausedException"),
    # The key is unknown, revoked or wrong, or may not send, or not as this address; or the clock is wrong here.
    ApiRow(
        Meaning.LOGIN_REFUSED,
        reason="AccessDenied(?:Exception)?|NotAuthorized|UnrecognizedClientException|InvalidClientTokenId|"
        "InvalidSignatureException|SignatureDoesNotMatch|IncompleteSignature(?:Exception)?|OptInRequired|"
        "ExpiredToken(?:Exception)?|RequestExpired|MissingAuthenticationToken(?:Exception)?",
    ),
    ApiRow(Meaning.LOGIN_REFUSED, status="401|403"),
    ApiRow(Meaning.REFUSED, status="413", reply=(552, "5.3.4")),
    ApiRow(Meaning.REFUSED, words="(?:length|size).{0,40}(?:exceed|greater|too l)|too large", reply=(552, "5.3.4")),
    # "Local address contains control or whitespace", "Missing final '@domain'", "Illegal address".
    ApiRow(
        Meaning.REFUSED,
        reason="BadRequestException|InvalidParameterValue",
        words="Local address|final '@domain'|Illegal address|domain contains|Recipient",
        reply=(550, "5.1.3"),
    ),
    # Taken for spam, or it bears a virus; or it is no message in their sense.
    ApiRow(Meaning.REFUSED, reason="MessageRejected"),
    ApiRow(Meaning.UNKNOWN, status="50[024]"),
    ApiRow(Meaning.TEMPORARY, status="5..|408|409"),
    ApiRow(Meaning.REFUSED, status="4.."),
    ApiRow(Meaning.TEMPORARY),
)

# documentation.mailgun.com/docs/mailgun/quickstart-guide/responses has the statuses, and 420 and the words are those of
# github.com/mailgun/mailgun-java/issues/50, TryGhost/Ghost/issues/15725, theoomoregbee/US-visa-appointment-notifier/
# issues/5. Its errors have no names.
MAILGUN: tuple[ApiRow, ...] = (
    # "recipient limit exceeded, try again after <date>": the hour's recipients of a young account, or the day's.
    ApiRow(Meaning.QUOTA, words="recipient limit exceeded|(?:message|sending) limit (?:exceeded|reached)"),
    ApiRow(Meaning.THROTTLE, status="420|429"),
    # In a sandbox domain every recipient has to agree first.
    ApiRow(Meaning.REFUSED, words="authorized recipients", reply=(550, "5.7.1")),
    # "Domain <d> is not allowed to send: …": not verified, not activated, disabled, to be reviewed.
    ApiRow(
        Meaning.LOCK_OUT, words="not allowed to send|activate your Mailgun account|account (?:is |has been )?disabled"
    ),
    # 402: the plan has ended.
    ApiRow(Meaning.LOCK_OUT, status="402"),
    ApiRow(Meaning.LOGIN_REFUSED, status="401|403"),
    # There is no such domain in this region: the user name is it.
    ApiRow(Meaning.LOGIN_REFUSED, status="404"),
    ApiRow(Meaning.REFUSED, status="413", reply=(552, "5.3.4")),
    ApiRow(Meaning.REFUSED, status="400", words="too (?:large|big)|size", reply=(552, "5.3.4")),
    ApiRow(Meaning.REFUSED, status="400", words="'?to'? parameter", reply=(550, "5.1.3")),
    ApiRow(Meaning.UNKNOWN, status="50[024]"),
    ApiRow(Meaning.TEMPORARY, status="5..|408|409"),
    ApiRow(Meaning.REFUSED, status="4.."),
    ApiRow(Meaning.TEMPORARY),
)
TABLES: Mapping[str, tuple[ApiRow, ...]] = MappingProxyType(
    {"msgraph": GRAPH, "gmail": GMAIL, "ses": SES, "mailgun": MAILGUN}
)
"""The table of each API, by `Server.api_name`."""


def refusal_of(answer: Answer, api: str, rules: Iterable[AnswerRule] = (), *, has_sent: bool = True) -> Failure:
    """Return the failure that an API's answer is. `api` is a key of TABLES, `rules` are the server's own.

    A rule is found in "STATUS TEXT" of the answer, in any case of letters. `has_sent`: the request was the one that
    sends the message; after any other nobody has it, whatever the status.
    """
    row = next(row for row in TABLES[api] if row.matches(answer))
    said = f"{answer.status} {answer.text}".casefold()
    meaning = next((rule.means for rule in rules if rule.match.casefold() in said), row.meaning)
    if meaning is Meaning.UNKNOWN and not has_sent:
        meaning = Meaning.TEMPORARY
    reply = row.reply if row.reply is not None and meaning is row.meaning else _CODES[meaning]
    phase = _PHASES.get(meaning, Phase.MAIL)
    return Failure(phase=phase, reply=Reply(*reply, answer.text), meaning=meaning, from_server=True)
