"""What every answer of webd says to the browser, whatever it is an answer to."""

from typing import Final

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types hive"
)
_FEATURES: Final = (
    "accelerometer",
    "autoplay",
    "browsing-topics",
    "camera",
    "display-capture",
    "encrypted-media",
    "fullscreen",
    "gamepad",
    "geolocation",
    "gyroscope",
    "hid",
    "identity-credentials-get",
    "idle-detection",
    "local-fonts",
    "magnetometer",
    "microphone",
    "midi",
    "otp-credentials",
    "payment",
    "picture-in-picture",
    "screen-wake-lock",
    "serial",
    "storage-access",
    "usb",
    "window-management",
    "xr-spatial-tracking",
)
_OWN_FEATURES: Final = ("publickey-credentials-create", "publickey-credentials-get")
"""What our own pages use: keys that decide proposals."""
_PERMISSIONS: Final = (
    *(f"{feature}=()" for feature in _FEATURES),
    *(f"{feature}=(self)" for feature in _OWN_FEATURES),
)
STANDING: Final = (
    ("content-security-policy", CSP),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("permissions-policy", ", ".join(_PERMISSIONS)),
    ("cache-control", "no-store"),
)
"""What every answer says; only static files say something else about caches."""
