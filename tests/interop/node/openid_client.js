// openid-client as a client of Local OmniFund: carries out one order, see orders.js.

import * as client from "openid-client";
import { carryOut } from "./orders.js";

await carryOut(async ({ kind, baseUrl, clientId, clientSecret, params, mendScope }) => {
  const server = {
    issuer: baseUrl,
    authorization_endpoint: `${baseUrl}/oauth/v2/auth`,
    token_endpoint: `${baseUrl}/oauth/v2/token`,
  };
  const configuration = new client.Configuration(
    server, clientId, {}, client.ClientSecretPost(clientSecret),
  );
  client.allowInsecureRequests(configuration);
  if (mendScope) configuration[client.customFetch] = withoutNullScope;

  const { callback, state, codeVerifier, ...fields } = params;
  switch (kind) {
    case "authorize":
      return client.buildAuthorizationUrl(configuration, {
        ...fields,
        state,
        code_challenge: await client.calculatePKCECodeChallenge(codeVerifier),
        code_challenge_method: "S256",
      }).href;
    case "code":
      return client.authorizationCodeGrant(configuration, new URL(callback), {
        expectedState: state,
        pkceCodeVerifier: codeVerifier,
      });
    case "refresh":
      return client.refreshTokenGrant(configuration, fields.refresh_token);
    case "password":
      return client.genericGrantRequest(configuration, "password", fields);
    case "customers": {
      const url = new URL(`${baseUrl}/api/customers`);
      const answer = await client.fetchProtectedResource(
        configuration, fields.access_token, url, "GET",
      );
      return answer.json();
    }
  }
}, (error) => ({
  name: error.name, code: error.code, status: error.status, error: error.error,
  description: error.error_description,
}));

async function withoutNullScope(...request) {
  const answer = await fetch(...request);
  const { scope, ...members } = await answer.json();
  return Response.json(scope === null ? members : { scope, ...members }, answer);
}
