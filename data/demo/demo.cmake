rodeo_library(rodeo_demo
  SOURCES demo/noise.c demo/lathe.c demo/shape.c demo/shapes_turned.c demo/shapes_formed.c
          demo/paint.c demo/catalogue.c demo/backdrop.c demo/scene.c demo/trace.c demo/render.c
          demo/sensor.c demo/dataset.c demo/write.c demo/tar.c demo/sheet.c
  LINKS rodeo_data lib_archive lib_cairo)
rodeo_program(demo_data SOURCES demo/main.c LINKS rodeo_demo)
