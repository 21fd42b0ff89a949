rodeo_library(rodeo_data
  SOURCES checksum.c pairs.c pairs_stat.c picture.c png.c pnm.c jpeg_bmp.c stb_image.c resize.c
          pack.c pack_build.c pack_cache.c plan.c loader.c
  LINKS rodeo_base rodeo_kernels lib_png lib_stb lib_xxhash)
# Others' code: its warnings are not ours to mend.
set_source_files_properties(stb_image.c PROPERTIES COMPILE_OPTIONS -w)

rodeo_program(pack SOURCES pack_main.c LINKS rodeo_data)
