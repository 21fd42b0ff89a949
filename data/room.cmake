rodeo_library(rodeo_data
  SOURCES checksum.c pairs.c pairs_stat.c picture.c png.c png_fast.c pnm.c jpeg.c bmp.c
          resize.c pack.c pack_build.c pack_cache.c scratch.c tar.c tar_entries.c tar_packs.c tar_wanted.c
          plan.c store.c loader.c read_ahead.c
  LINKS rodeo_base rodeo_kernels lib_archive lib_deflate lib_png lib_turbojpeg lib_xxhash)

rodeo_program(pack SOURCES pack_main.c LINKS rodeo_data)
