// simple-oauth2 as a client of Local OmniFund: carries out one order, see orders.js.

import { AuthorizationCode, ResourceOwnerPassword } from "simple-oauth2";
import { carryOut } from "./orders.js";

await carryOut(async ({ kind, baseUrl, clientId, clientSecret, params }) => {
  const configuration = {
    client: { id: clientId, secret: clientSecret },
    auth: { tokenHost: baseUrl, tokenPath: "/oauth/v2/token", authorizePath: "/oauth/v2/auth" },
    options: { authorizationMethod: "body" },
  };
  const client = new AuthorizationCode(configuration);
  switch (kind) {
    case "authorize":
      return client.authorizeURL(params);
    case "code":
      return client.getToken(params);
    case "refresh":
      return client.createToken(params).refresh();
    case "password":
      delete configuration.auth.authorizePath;
      return new ResourceOwnerPassword(configuration).getToken(params);
  }
}, (error) => ({ status: error.output?.statusCode, ...error.data?.payload, text: String(error) }));
