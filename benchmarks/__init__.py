"""What phota_async costs, beside plain aiohttp doing the same work in the same run."""
