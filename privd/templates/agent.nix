# What this agent's system has beside what every agent's has: packages, services. agent.toml holds everything else.
{ pkgs, ... }:
{
  hyperhive.packages = [ ];
}
