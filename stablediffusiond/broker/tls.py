"""amqps: our side of the handshake, and what to do when it fails, in terms of our settings and not of OpenSSL."""

import ssl
from pathlib import Path
from typing import Final

from stablediffusiond import sandbox
from stablediffusiond.errors import SettingsError
from stablediffusiond.settings import BrokerSettings

#: X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL's x509_vfy.h.
_OTHER_NAME: Final = {62, 64}
#: What OpenSSL calls it -> what it means here. The alerts come from the broker, after our side was content.
_MEANINGS: Final = {
    "ALERT_CERTIFICATE_REQUIRED": "the broker wants a certificate of ours; [broker] certificate_file names it",
    "ALERT_HANDSHAKE_FAILURE": "the broker wants a certificate of ours ([broker] certificate_file), or other ciphers",
    "ALERT_UNKNOWN_CA": "the broker does not know who signed our certificate ([broker] certificate_file)",
    "ALERT_BAD_CERTIFICATE": "the broker does not accept our certificate ([broker] certificate_file)",
    "ALERT_CERTIFICATE_EXPIRED": "our certificate has expired ([broker] certificate_file)",
    "WRONG_VERSION_NUMBER": "no TLS is spoken on this port; amqps usually has port 5671 ([broker] url)",
}


def context(settings: BrokerSettings) -> ssl.SSLContext:
    """The broker has to show a certificate for its name, signed by a trusted authority; ours is shown if there is one.

    Raises:
        SettingsError: a file cannot be used.
    """
    for key in ("ca_file", "certificate_file", "key_file"):
        _require_readable(getattr(settings, key), key)
    try:
        made = ssl.create_default_context(cafile=settings.ca_file)
        if settings.certificate_file:
            made.load_cert_chain(settings.certificate_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"settings: [broker] TLS files cannot be used: {error}") from None
    return made


def _require_readable(file: Path | None, key: str) -> None:
    """OpenSSL does not say which file it is that it cannot read."""
    if file is None:
        return
    try:
        file.open("rb").close()
    except OSError as error:
        reason = sandbox.hides(file) or error.strerror
        raise SettingsError(f"settings: [broker] {key}: {file} cannot be read: {reason}") from None


def complaint(error: BaseException) -> str | None:
    """What is wrong with the handshake, and where to mend it; None if it was not the handshake that failed.

    pika passes on the errors of the handshake, and of later ones only their text.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_NAME:
            return f"{error.verify_message}; [broker] url has to name the broker as its certificate does"
        return f"{error.verify_message}; [broker] ca_file names the authority that signed the broker's certificate"
    text = str(error)
    if not isinstance(error, ssl.SSLError) and "SSLError(" not in text:
        return None
    return next((meaning for name, meaning in _MEANINGS.items() if name in text), text)
