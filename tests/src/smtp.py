"""A mail server for tests: aiosmtpd, which writes what it is given into files.

Its one argument is a directory: `options.json` says how to behave, `listens` is written when it listens,
each mail becomes `mail-N.json`, and `journal` has a line for each connection, log-in and recipient.
"""

import asyncio
import email
import email.policy
import itertools
import json
import os
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

directory = pathlib.Path(sys.argv[1])
options = json.loads((directory / "options.json").read_text())
numbers = itertools.count(len(list(directory.glob("mail-*.json"))))


def write(name, text):
    temporary = directory / f".{name}"
    temporary.write_text(text)
    os.rename(temporary, directory / name)


def journal(line):
    with open(directory / "journal", "a") as file:
        file.write(f"{line}\n")


def is_encrypted(server):
    return server.transport.get_extra_info("ssl_object") is not None


def body(message, kind):
    part = message.get_body((kind,))
    return None if part is None else part.get_content()


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        journal("recipient")
        if options.get("refuses"):
            return f"{options['refuses']} <{address}> is nobody here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        mail = {
            "hello": session.host_name,
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "encrypted": is_encrypted(server),
            "user": (session.auth_data or b"").decode(),
            "headers": [[name, str(value)] for name, value in message.items()],
            "content_type": message.get_content_type(),
            "text": body(message, "plain"),
            "html": body(message, "html"),
        }
        write(f"mail-{next(numbers)}.json", json.dumps(mail))
        if options.get("vanishes"):
            server.transport.abort()
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    right = [data.login.decode(), data.password.decode()] == options["credentials"]
    journal(f"log-in {'right' if right else 'wrong'} {'encrypted' if is_encrypted(server) else 'clear'}")
    return AuthResult(success=right, handled=False, auth_data=data.login)


def certificate():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options["certificate"], options["key"])
    return context


def connection():
    journal("connection")
    credentials = options.get("credentials")
    return SMTP(
        Handler(),
        hostname="mail.test",
        enable_SMTPUTF8=True,
        tls_context=certificate() if options["tls"] == "starttls" else None,
        # That no password comes in the clear is for the client to see to.
        auth_require_tls=False,
        auth_required=credentials is not None,
        authenticator=authenticate if credentials else None,
        auth_exclude_mechanism=None if credentials else ["LOGIN", "PLAIN"],
    )


async def main():
    loop = asyncio.get_running_loop()
    context = certificate() if options["tls"] == "implicit" else None
    server = await loop.create_server(connection, "127.0.0.1", options["port"], ssl=context)
    write("listens", "")
    await server.serve_forever()


asyncio.run(main())
