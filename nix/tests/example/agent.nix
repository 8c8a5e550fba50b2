{ pkgs, config, ... }:
{
  hyperhive.packages = [ pkgs.git ];
  environment.etc."hyperhive/model-of-this-agent".text = config.hyperhive.model;
}
