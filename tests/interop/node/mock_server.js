// oauth2-mock-server on OmniFund's paths. It approves every request and checks only PKCE.

import { OAuth2Server } from "oauth2-mock-server";

const server = new OAuth2Server(undefined, undefined, {
  endpoints: { authorize: "/oauth/v2/auth", token: "/oauth/v2/token" },
});

// It has no pages, so what its user would answer is said here.
server.service.addRoute("POST", "/answer", (request, response) => {
  const { authorize, token } = request.body;
  if (authorize) {
    server.service.once("beforeAuthorizeRedirect", ({ url }) => {
      url.searchParams.delete("code");
      url.searchParams.set("error", authorize);
    });
  }
  if (token) {
    server.service.once("beforeResponse", (answer) => {
      answer.statusCode = 400;
      answer.body = { error: token };
    });
  }
  response.end();
});

await server.issuer.keys.generate("RS256");
await server.start(Number(process.env.PORT), "127.0.0.1");
