// Passport: the same journey as the documentation of Express, express-session, connect-redis and
// passport-oauth2 teaches it.
import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import passport from "passport";
import OAuth2Strategy from "passport-oauth2";
import { createClient } from "redis";

import { customersPage } from "./pages.js";

const { PORT, REDIS_URL, SECRET_KEY, OMNIFUND_BASE_URL } = process.env;

const redisClient = createClient({ url: REDIS_URL });
await redisClient.connect();

passport.use(
  new OAuth2Strategy(
    {
      authorizationURL: `${OMNIFUND_BASE_URL}/oauth/v2/auth`,
      tokenURL: `${OMNIFUND_BASE_URL}/oauth/v2/token`,
      clientID: process.env.OMNIFUND_CLIENT_ID,
      clientSecret: process.env.OMNIFUND_CLIENT_SECRET,
      callbackURL: `http://localhost:${PORT}/callback`,
      state: true,
      pkce: true,
    },
    (accessToken, refreshToken, params, profile, done) =>
      done(null, { accessToken, refreshToken, expiresIn: params.expires_in }),
  ),
);
passport.serializeUser((user, done) => done(null, user));
passport.deserializeUser((user, done) => done(null, user));

const app = express();
app.get("/healthz", (_request, response) => response.send("ok"));
app.use(
  session({
    store: new RedisStore({ client: redisClient }),
    resave: false,
    saveUninitialized: false,
    secret: SECRET_KEY,
  }),
);
app.use(passport.session());

app.get("/", (_request, response) =>
  response.send('<!doctype html><title>Passport</title><p><a href="/login">Sign in</a>'),
);
app.get("/login", passport.authenticate("oauth2"));
app.get(
  "/callback",
  passport.authenticate("oauth2", { failureRedirect: "/login" }),
  (_request, response) => response.redirect("/dashboard"),
);
app.get("/dashboard", (request, response) => {
  if (!request.isAuthenticated()) return response.redirect("/login");
  response.send(
    `<!doctype html><title>Dashboard</title><p>You are signed in for ${request.user.expiresIn} s.`,
  );
});
app.get("/customers", async (request, response) => {
  if (!request.isAuthenticated()) return response.redirect("/login");
  const answer = await fetch(`${OMNIFUND_BASE_URL}/api/customers`, {
    headers: { Authorization: `Bearer ${request.user.accessToken}` },
  });
  if (!answer.ok) throw new Error(`OmniFund answered with ${answer.status}.`);
  response.send(customersPage(await answer.json()));
});

app.listen(PORT, "127.0.0.1");
