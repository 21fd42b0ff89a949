rodeo_library(rodeo_data
  SOURCES checksum.c pairs.c pairs_stat.c picture.c png.c png_fast.c pnm.c jpeg.c bmp.c stb_image.c
          resize.c pack.c pack_build.c pack_cache.c scratch.c tar.c tar_entries.c tar_packs.c tar_wanted.c
          plan.c store.c loader.c read_ahead.c
  LINKS rodeo_base rodeo_kernels lib_archive lib_deflate lib_png lib_stb lib_turbojpeg lib_xxhash)
# Others' code: its warnings are not ours to mend. Damaged files make its arithmetic overflow, which is
# harmless where it wraps; its memory accesses stay under the sanitizers' eyes.
set(stb_options -w -fwrapv)
if(RODEO_SANITIZE OR RODEO_FUZZ)
  list(APPEND stb_options -fno-sanitize=shift,signed-integer-overflow)
endif()
set_source_files_properties(stb_image.c PROPERTIES COMPILE_OPTIONS "${stb_options}")

rodeo_program(pack SOURCES pack_main.c LINKS rodeo_data)
