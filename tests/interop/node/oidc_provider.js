// panva's oidc-provider on OmniFund's paths, with its own log-in and consent pages.

import { Provider } from "oidc-provider";

const { PORT, CLIENT_ID, CLIENT_SECRET, REDIRECT_URI } = process.env;

const client = {
  client_secret: CLIENT_SECRET,
  redirect_uris: [REDIRECT_URI],
  // A web client would have to come back over https.
  application_type: "native",
  grant_types: ["authorization_code", "refresh_token"],
  response_types: ["code"],
  // Each client has one way to authenticate, and HTTP Basic is its default.
  token_endpoint_auth_method: "client_secret_post",
};

const provider = new Provider(`http://localhost:${PORT}`, {
  clients: [
    { ...client, client_id: CLIENT_ID },
    { ...client, client_id: `${CLIENT_ID}-without-a-scope` },
  ],
  routes: { authorization: "/oauth/v2/auth", token: "/oauth/v2/token" },
  pkce: { required: () => true },
  // By default only those get a refresh token who ask for the scope offline_access.
  issueRefreshToken: async () => true,
  rotateRefreshToken: true,
  findAccount: async (_context, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  cookies: { keys: ["signs nothing but a test's cookies"] },
});

// It has no default for a request without a scope, and clients of OmniFund send none.
provider.use(async (context, next) => {
  if (context.path === "/oauth/v2/auth" && context.query.client_id === CLIENT_ID) {
    context.query = { ...context.query, scope: "openid" };
  }
  await next();
});

provider.listen(Number(PORT), "127.0.0.1");
