# SPDX-License-Identifier: GPL-2.0-or-later
"""Random programs, and running one natively and through the mount at once."""
