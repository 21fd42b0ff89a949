rodeo_library(rodeo_settings
  SOURCES settings.c settings_table.c settings_yaml.c settings_args.c
  LINKS rodeo_base lib_cyaml)
