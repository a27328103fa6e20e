// Passport with the app's safeguards, each as the documentation of its package teaches it: helmet,
// csrf-sync, pino-http, prom-client, a rate limit in Redis, AES-GCM at rest, PKCE, and one refresh
// at a time under a lock in Redis.
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes, randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { RedisStore } from "connect-redis";
import { csrfSync } from "csrf-sync";
import express from "express";
import { rateLimit } from "express-rate-limit";
import session from "express-session";
import helmet from "helmet";
import passport from "passport";
import OAuth2Strategy from "passport-oauth2";
import { pinoHttp } from "pino-http";
import metrics from "prom-client";
import { RedisStore as LimitStore } from "rate-limit-redis";
import { createClient } from "redis";

import { customersPage } from "./pages.js";

const { PORT, REDIS_URL, SECRET_KEY, OMNIFUND_BASE_URL } = process.env;
const LEEWAY_MS = 60_000;
const LOCK_MS = 30_000;

const redisClient = createClient({ url: REDIS_URL });
await redisClient.connect();

// --- at rest ------------------------------------------------------------------------------------

const key = Buffer.from(hkdfSync("sha256", SECRET_KEY, "", "sessions", 32));
const encrypted = {
  stringify(value) {
    const nonce = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", key, nonce);
    const text = Buffer.concat([cipher.update(JSON.stringify(value)), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), text]).toString("base64");
  },
  parse(stored) {
    const bytes = Buffer.from(stored, "base64");
    const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, 12));
    decipher.setAuthTag(bytes.subarray(12, 28));
    return JSON.parse(Buffer.concat([decipher.update(bytes.subarray(28)), decipher.final()]));
  },
};
const sessionStore = new RedisStore({ client: redisClient, serializer: encrypted });

// --- OAuth --------------------------------------------------------------------------------------

const strategy = new OAuth2Strategy(
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
    done(null, tokens(accessToken, refreshToken, params)),
);
passport.use(strategy);
passport.serializeUser((user, done) => done(null, user));
passport.deserializeUser((user, done) => done(null, user));

function tokens(accessToken, refreshToken, { expires_in: expiresIn }) {
  return { accessToken, refreshToken, expiresIn, expiresAt: Date.now() + expiresIn * 1000 };
}

const leeway = (user) => Math.min(LEEWAY_MS, user.expiresIn * 500);
const isFresh = (user) => user.expiresAt - leeway(user) > Date.now();
const UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end";

// One request refreshes; the others wait until the session has its tokens.
async function freshUser(request) {
  const stale = request.user.accessToken;
  if (isFresh(request.user)) return request.user;
  const lock = { key: `refresh:${request.sessionID}`, owner: randomUUID() };
  for (const end = Date.now() + LOCK_MS; Date.now() < end; await delay(50)) {
    const isMine = await redisClient.set(lock.key, lock.owner, { NX: true, PX: LOCK_MS });
    try {
      const user = await storedUser(request.sessionID);
      if (user.accessToken !== stale) return (request.session.passport.user = user);
      if (!isMine) continue;
      request.session.passport.user = await refreshed(user);
      await new Promise((resolve, reject) =>
        request.session.save((error) => (error ? reject(error) : resolve())),
      );
      return request.session.passport.user;
    } finally {
      if (isMine) await redisClient.eval(UNLOCK, { keys: [lock.key], arguments: [lock.owner] });
    }
  }
  throw new Error("No refresh ended in time.");
}

const storedUser = (id) =>
  new Promise((resolve, reject) =>
    sessionStore.get(id, (error, found) => (error ? reject(error) : resolve(found.passport.user))),
  );

const refreshed = ({ refreshToken }) =>
  new Promise((resolve, reject) =>
    strategy._oauth2.getOAuthAccessToken(
      refreshToken,
      { grant_type: "refresh_token" },
      (error, access, refresh, params) =>
        error ? reject(error) : resolve(tokens(access, refresh, params)),
    ),
  );

// --- the app ------------------------------------------------------------------------------------

const app = express();
app.set("trust proxy", 1);
app.use(
  pinoHttp({
    genReqId: () => randomUUID(),
    serializers: {
      req: ({ id, method, url }) => ({ id, method, path: url.split("?")[0] }),
      res: ({ statusCode }) => ({ statusCode }),
    },
  }),
);
const duration = new metrics.Histogram({
  name: "http_request_duration_seconds",
  help: "Requests by route and status.",
  labelNames: ["route", "status"],
});
app.use((request, response, next) => {
  const stop = duration.startTimer();
  response.on("finish", () =>
    stop({ route: request.route?.path ?? "none", status: response.statusCode }),
  );
  next();
});
app.use(helmet());
app.get("/healthz", (_request, response) => response.send("ok"));
app.get("/metrics", async (_request, response) => {
  response.type(metrics.register.contentType).send(await metrics.register.metrics());
});
app.use(
  ["/login", "/callback"],
  rateLimit({
    windowMs: 60_000,
    limit: 60,
    standardHeaders: true,
    legacyHeaders: false,
    store: new LimitStore({ sendCommand: (...command) => redisClient.sendCommand(command) }),
  }),
);
app.use(
  session({
    store: sessionStore,
    name: "__Host-session",
    cookie: { httpOnly: true, sameSite: "lax", secure: true, path: "/", maxAge: 1_800_000 },
    resave: false,
    rolling: true,
    saveUninitialized: false,
    secret: SECRET_KEY,
  }),
);
app.use(passport.session());
const { csrfSynchronisedProtection, generateToken } = csrfSync({
  getTokenFromRequest: (request) => request.body._csrf,
});
app.use(express.urlencoded({ extended: false }), csrfSynchronisedProtection);

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
    `<!doctype html><title>Dashboard</title><p>You are signed in for ${request.user.expiresIn} s.` +
      `<form method=post action=/logout><input type=hidden name=_csrf value=${generateToken(request)}>` +
      "<button>Sign out</button></form>",
  );
});
app.get("/customers", async (request, response) => {
  if (!request.isAuthenticated()) return response.redirect("/login");
  const { accessToken } = await freshUser(request);
  const answer = await fetch(`${OMNIFUND_BASE_URL}/api/customers`, {
    headers: { Authorization: `Bearer ${accessToken}` },
    signal: AbortSignal.timeout(10_000),
  });
  if (!answer.ok) throw new Error(`OmniFund answered with ${answer.status}.`);
  response.send(customersPage(await answer.json()));
});
app.post("/logout", (request, response, next) =>
  request.logout((error) => (error ? next(error) : response.redirect("/"))),
);

app.listen(PORT, "127.0.0.1");
