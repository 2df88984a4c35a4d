// An OpenID Connect issuer for tests: `oidc-provider`, as it is certified, with a login page that
// believes whoever comes and says who they are.
//
//     node issuer.mjs '{"port": 0, "thin": false, "clients": [{"client_id", "client_secret", "redirect_uris"}]}'
//
// It prints `{"issuer": URL}` when it listens, and makes new keys at every start. At the login page,
// `/interaction/{uid}`, the header `x-account` says who comes: the JSON of the account's claims, or
// `"nobody"` for somebody who says no. With `thin`, claims of the person are at the UserInfo endpoint
// alone.
//
// What a certified issuer never does is what a client must refuse. An account's `twist` has it done:
// `claims` replaces claims of the ID token (null removes one), `sign` signs it otherwise: by `none`, by
// the `secret` of the client, or by a `stranger`.

import { createServer } from 'node:http';
import { randomBytes } from 'node:crypto';

import * as jose from 'jose';
import Provider from 'oidc-provider';

const { port, thin, clients } = JSON.parse(process.argv[2]);
const accounts = new Map();

const ALG = 'RS256';
async function newKey() {
  const { privateKey } = await jose.generateKeyPair(ALG, { extractable: true });
  const jwk = await jose.exportJWK(privateKey);
  return { ...jwk, kid: await jose.calculateJwkThumbprint(jwk), alg: ALG, use: 'sig' };
}
const key = await newKey();
const strangersKey = await newKey();

const server = createServer();
await new Promise((listening) => server.listen(port, '127.0.0.1', listening));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients,
  jwks: { keys: [key] },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  conformIdTokenClaims: thin,
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'hd'] },
  // The clients of an older protocol know none.
  pkce: { required: () => false },
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 600, IdToken: 600, Interaction: 600, Session: 600 },
  findAccount: (_, accountId) => {
    const { twist, ...claims } = accounts.get(accountId);
    return { accountId, claims: () => claims };
  },
  loadExistingGrant: async (ctx) => {
    const { client, session } = ctx.oidc;
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
    grant.addOIDCScope('openid email profile');
    await grant.save();
    return grant;
  },
});

function sign(payload, how, client) {
  const signature = new jose.SignJWT(payload);
  switch (how) {
    case 'none':
      return new jose.UnsecuredJWT(payload).encode();
    case 'secret':
      return signature.setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(client.clientSecret));
    case 'stranger':
      return jose
        .importJWK(strangersKey, ALG)
        .then((stranger) => signature.setProtectedHeader({ alg: ALG, kid: key.kid }).sign(stranger));
    default:
      return jose
        .importJWK(key, ALG)
        .then((own) => signature.setProtectedHeader({ alg: ALG, kid: key.kid }).sign(own));
  }
}

provider.use(async (ctx, next) => {
  await next();
  if (ctx.oidc?.route !== 'token' || !ctx.body?.id_token) return;
  const payload = jose.decodeJwt(ctx.body.id_token);
  const { twist } = accounts.get(payload.sub);
  if (!twist) return;
  for (const [name, value] of Object.entries(twist.claims ?? {})) {
    if (value === null) delete payload[name];
    else payload[name] = value;
  }
  ctx.body = { ...ctx.body, id_token: await sign(payload, twist.sign, ctx.oidc.client) };
});

const callback = provider.callback();
server.on('request', async (request, response) => {
  if (!request.url.startsWith('/interaction/')) return callback(request, response);
  try {
    const account = JSON.parse(request.headers['x-account']);
    if (account === 'nobody') {
      await provider.interactionFinished(request, response, { error: 'access_denied' });
      return;
    }
    accounts.set(account.sub, account);
    await provider.interactionFinished(request, response, { login: { accountId: account.sub } });
  } catch (error) {
    response.writeHead(400).end(String(error));
  }
});

console.log(JSON.stringify({ issuer }));
