"""OmniFund's two paths, with the views of django-oauth-toolkit behind them."""

from __future__ import annotations

from django.urls import path
from oauth2_provider.views import AuthorizationView, TokenView

urlpatterns = [
    path("oauth/v2/auth", AuthorizationView.as_view()),
    path("oauth/v2/token", TokenView.as_view()),
]
