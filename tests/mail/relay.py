"""A mail relay on loopback that does what a test says.

The first argument is a JSON object with how it is set up. Each line of the standard input is one with how it
answers from then on. Each line of the standard output is one with what happened: it is ready, it has taken a mail,
it has refused something.
"""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

setup = json.loads(sys.argv[1])
# By command: the answers in place of the usual one, each used once; by recipient, as long as they are there.
answers = {"mail": [], "data": [], "rcpt": {}}


def tell(**event):
    print(json.dumps(event), flush=True)


def refuse(command):
    answer = answers[command].pop(0)
    tell(refused=command, answer=answer)
    return answer


class Handler:
    async def handle_MAIL(self, server, session, envelope, address, options):
        if answers["mail"]:
            return refuse("mail")
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        answer = answers["rcpt"].get(address)
        if answer:
            tell(refused="rcpt", answer=answer)
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if answers["data"]:
            return refuse("data")
        login = session.auth_data.login if session.authenticated else None
        tell(
            mail={
                "from": envelope.mail_from,
                "to": envelope.rcpt_tos,
                "content": envelope.content.decode("ascii"),
                "encrypted": session.ssl is not None or setup["tls"] == "tls",
                "login": login.decode() if login else None,
            }
        )
        return "250 Taken"


def authenticate(server, session, envelope, mechanism, data):
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (
        setup["login"].encode(),
        setup["password"].encode(),
    )
    if right:
        return AuthResult(success=True, auth_data=data)
    tell(refused="auth", answer=mechanism)
    # A relay that repeats what it was sent.
    password = data.password.decode() if isinstance(data, LoginPassword) else ""
    return AuthResult(success=False, handled=False, message=f"535 5.7.8 not {password}")


def smtp():
    options = {"hostname": "relay.test", "enable_SMTPUTF8": False}
    if setup["tls"] == "starttls":
        options.update(tls_context=context, require_starttls=True)
    if setup["login"]:
        excluded = {"PLAIN", "LOGIN"} - {setup["mechanism"]}
        options.update(
            authenticator=authenticate,
            auth_required=True,
            auth_require_tls=setup["tls"] == "starttls",
            auth_exclude_mechanism=excluded,
        )
    return SMTP(Handler(), **options)


async def obey():
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        answers.update(json.loads(line))
        tell(obeys=True)


async def main():
    implicit = context if setup["tls"] == "tls" else None
    loop = asyncio.get_running_loop()
    server = await loop.create_server(smtp, "127.0.0.1", setup["port"], ssl=implicit, reuse_address=True)
    tell(ready=server.sockets[0].getsockname()[1])
    await obey()


context = None
if setup["tls"] != "none":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(setup["certificate"], setup["key"])
asyncio.run(main())
