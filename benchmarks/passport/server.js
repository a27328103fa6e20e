// The Node peer: Express, Passport and sessions in Redis, as their documentation shows.

const express = require("express");
const session = require("express-session");
const passport = require("passport");
const OAuth2Strategy = require("passport-oauth2");
const { RedisStore } = require("connect-redis");
const { createClient } = require("redis");

const { OMNIFUND_BASE_URL, OMNIFUND_CLIENT_ID, OMNIFUND_CLIENT_SECRET, REDIS_URL, SECRET_KEY, PORT } = process.env;

const redis = createClient({ url: REDIS_URL });
const app = express();

passport.use("omnifund", new OAuth2Strategy(
  {
    authorizationURL: `${OMNIFUND_BASE_URL}/oauth/v2/auth`,
    tokenURL: `${OMNIFUND_BASE_URL}/oauth/v2/token`,
    clientID: OMNIFUND_CLIENT_ID,
    clientSecret: OMNIFUND_CLIENT_SECRET,
    callbackURL: `http://localhost:${PORT}/callback`,
    pkce: true,
    state: true,
  },
  (accessToken, refreshToken, profile, done) => done(null, { accessToken, refreshToken }),
));
passport.serializeUser((user, done) => done(null, user));
passport.deserializeUser((user, done) => done(null, user));

const page = (title, lines) => `<!doctype html>
<title>${title}</title>
<h1>${title}</h1>
<nav><a href="/dashboard">Dashboard</a> <a href="/customers">Customers</a></nav>
<ul>${lines.map((line) => `<li>${line}</li>`).join("")}</ul>
`;

app.use(session({
  store: new RedisStore({ client: redis }),
  secret: SECRET_KEY,
  resave: false,
  saveUninitialized: false,
}));
app.use(passport.initialize());
app.use(passport.session());

const signedIn = (request, response, next) => (request.user ? next() : response.redirect("/login"));

app.get("/", (request, response) => response.send(page("Welcome", ["Sign in."])));
app.get("/login", passport.authenticate("omnifund"));
app.get("/callback", passport.authenticate("omnifund"), (request, response) => response.redirect("/dashboard"));
app.get("/dashboard", signedIn, (request, response) => response.send(page("Dashboard", ["connected"])));
app.get("/customers", signedIn, async (request, response, next) => {
  try {
    const answer = await fetch(`${OMNIFUND_BASE_URL}/api/customers`, {
      headers: { Authorization: `Bearer ${request.user.accessToken}` },
    });
    if (!answer.ok) throw new Error(`OmniFund answered ${answer.status}`);
    const { "hydra:member": members } = await answer.json();
    response.send(page("Customers", members.map((customer) => customer.firstName)));
  } catch (error) {
    next(error);
  }
});

redis.connect().then(() => app.listen(PORT, "127.0.0.1"));
